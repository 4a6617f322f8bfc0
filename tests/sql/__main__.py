"""`python -m tests.sql`: write docs/sql/ and the moves of the job's guard again, from the code as it is.

`python -m tests.sql claim_one` prints that statement with $1, $2 and so on for its parameters, to be EXPLAINed.
"""

import os
import sys


def main() -> int:
    """Write what differs, and print its name; or print the statements named."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    from tests.sql.functions import GUARD, ROOT, with_moves
    from tests.sql.statements import FOLDER, STATEMENTS, listing

    if sys.argv[1:]:
        asked = [one for one in STATEMENTS if one.name in sys.argv[1:]]
        sys.stdout.writelines(f"EXPLAIN (GENERIC_PLAN){one.numbered.rstrip()};\n" for one in asked)
        return 0 if asked else 2
    wanted = {one.path: one.page for one in STATEMENTS}
    readme = FOLDER / "README.md"
    wanted |= {readme: listing(readme.read_text()), GUARD: with_moves(GUARD.read_text())}
    for path in set(FOLDER.glob("*.sql")) - wanted.keys():
        path.unlink()
        sys.stdout.write(f"removed {path.relative_to(ROOT)}\n")
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
