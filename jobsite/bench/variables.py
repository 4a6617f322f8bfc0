"""The environment variables that tell the process of a contender's jobs what to keep."""

RESULTS_VARIABLE = "JOBSITE_BENCH_RESULTS"
REUSE_VARIABLE = "JOBSITE_BENCH_REUSE"
