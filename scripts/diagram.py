"""Draw the table of moves into ARCHITECTURE.md, between its first pair of mermaid fences."""

from pathlib import Path

from openaperture.domain.moves import diagram

PAGE = Path(__file__).parents[1] / "ARCHITECTURE.md"


def main() -> None:
    before, rest = PAGE.read_text(encoding="utf-8").split("```mermaid\n", 1)
    after = rest.split("\n```", 1)[1]
    PAGE.write_text(f"{before}```mermaid\n{diagram()}\n```{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
