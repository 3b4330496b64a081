"""The table of an ablation as text, and the LaTeX that pdflatex compiles."""

import csv
import io
import shutil
import subprocess
from dataclasses import replace

import pytest
from made_runs import MadeCell, made_grid

from fusionkit.ablation import ablation
from fusionkit.ablation_latex import costs_latex, latex
from fusionkit.ablation_tables import costs_csv, costs_markdown, heads, markdown, rows, runs_csv, table_csv

NASTY = r"50 % of {it} & more_$ #1 \foo ~^ <x> |y| [z]"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return made_grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def found(cells):
    return ablation(cells)


def renamed(cells, name):
    return [(MadeCell(name if cell.name == "late" else cell.name, cell.seed), run) for cell, run in cells]


def test_rows_are_as_printed(found):
    assert heads(found) == [
        "variant", "seeds", "OA", "AA", "kappa", "OA minus concat, points", "p", "p (Holm)", "verdict",
    ]  # fmt: skip
    late = rows(found)[4]
    held = found.row("late")
    oa, gap = held.metrics["oa"], held.against.differences["oa"]
    assert late[2] == f"{oa.mean:.3f} ± {oa.deviation:.3f} [{oa.low:.3f}, {oa.high:.3f}]"
    assert late[5] == f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    assert late[-1] == "better"
    assert rows(found)[2][5:] == ["", "", "", "reference"]
    assert rows(found)[3][-1] == "no evidence of a difference"


def test_markdown_has_a_line_a_row_and_pipes_are_escaped(cells):
    text = markdown(ablation(renamed(cells, "a|b")), ["as told"])
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 + 6
    assert any(line.startswith("| a\\|b |") for line in lines)
    assert "- as told" in lines


def test_csv_holds_every_number_and_the_levels(found):
    table = list(csv.DictReader(io.StringIO(table_csv(found))))
    assert [row["variant"] for row in table] == [row.name for row in found.rows]
    gmu = next(row for row in table if row["variant"] == "gmu")
    held = found.row("gmu")
    assert (gmu["fusion"], gmu["baseline"], gmu["n"]) == ("gmu", "False", "240")
    assert float(gmu["oa"]) == held.metrics["oa"].mean
    assert float(gmu["macro_f1_difference_low"]) == held.against.differences["macro_f1"].low
    assert float(gmu["p_holm"]) == held.against.adjusted
    assert gmu["verdict"] == "no evidence of a difference"
    reference = next(row for row in table if row["variant"] == "concat")
    assert reference["p"] == reference["oa_difference"] == ""
    runs = list(csv.DictReader(io.StringIO(runs_csv(found))))
    assert len(runs) == 18
    assert runs[-1]["run"] == held.runs[0].replace("gmu-0", "sum-2")


def test_costs_are_those_of_the_runs(found):
    table = {row["variant"]: row for row in csv.DictReader(io.StringIO(costs_csv(found)))}
    assert table["gmu"]["parameters"] == "123456"
    assert float(table["gmu"]["train_seconds"]) == 31
    assert float(table["gmu"]["peak_memory_bytes"]) == 2**28 + 2
    assert "| gmu | 123,456 | 7 M | 31.0 s | 500 | 256 MiB |" in costs_markdown(found)


def test_table_does_not_depend_on_when_and_where_the_runs_were_made(cells, found, tmp_path):
    again = made_grid(tmp_path / "elsewhere")
    assert table_csv(ablation(again)) == table_csv(found)
    assert latex(ablation(again), "x") == latex(found, "x")


def test_latex_marks_best_second_and_significance(found):
    text = latex(found, "A table")
    lines = {line.split(" & ")[0]: line for line in text.splitlines() if " & " in line}
    assert r"\textbf{0.962}$^{*}$ $\pm$ 0.015" in lines["late"]
    assert r"\underline{0.821} $\pm$ 0.017" in lines["gmu"]
    assert r"0.372$^{**}$" in lines["sum"]
    assert "textbf" not in lines["concat"]
    assert r"$-$43.3 {[}$-$48.6, $-$38.1]" in lines["sum"]
    assert "No mark: no evidence of a difference." in text
    assert text.index("early stack") < text.index(r"\midrule", text.index("early stack")) < text.index("concat &")
    assert text.isascii()


def test_of_errors_the_least_is_best_and_equals_share_their_rank(found):
    from fusionkit.ablation_latex import _ranks

    made = found.rows[2].metrics["oa"]
    three = [
        replace(row, metrics={"rmse": replace(made, mean=mean)})
        for row, mean in zip(found.rows[2:5], (2.0, 1.0, 1.00001), strict=True)
    ]
    assert _ranks(three, "rmse") == {"concat": 1, "gmu": 0, "late": 0}


def test_one_seed_has_a_dagger_and_no_spread(cells):
    text = latex(ablation([(cell, run) for cell, run in cells if cell.seed == 0]), "One seed")
    assert r"$^{\dagger}$ weak evidence" in text
    assert r"\pm" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", [NASTY, "late"])
def test_latex_compiles(cells, name, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no pdflatex (apt-get install texlive-latex-base texlive-latex-recommended)")
    found = ablation(renamed(cells, name))
    (tmp_path / "table.tex").write_text(latex(found, NASTY))
    (tmp_path / "costs.tex").write_text(costs_latex(found, NASTY))
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\input{costs}\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").is_file()
    if shutil.which("pdftotext"):
        text = subprocess.run(
            ["pdftotext", "-layout", "paper.pdf", "-"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        assert "no evidence of a difference" in " ".join(text.split())
        assert "50 % of {it} & more" in text
