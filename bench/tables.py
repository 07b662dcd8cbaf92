"""Put the measured tables into the pages that show them: between `<!-- table: NAME -->` and `<!-- end -->`.

python bench/tables.py
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")

        def fill(found: re.Match[str]) -> str:
            table = (DOCS / "tables" / f"{found[1]}.md").read_text(encoding="utf-8").strip()
            return f"<!-- table: {found[1]} -->\n{table}\n<!-- end -->"

        new = re.sub(r"<!-- table: (\S+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(f"{page.name}: tables filled")


if __name__ == "__main__":
    main()
