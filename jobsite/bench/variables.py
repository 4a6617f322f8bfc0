"""The environment variables by which a contender tells the process of its job what to keep."""

RESULTS_VARIABLE = "JOBSITE_BENCH_RESULTS"
REUSE_VARIABLE = "JOBSITE_BENCH_REUSE"
