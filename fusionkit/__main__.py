"""`python -m fusionkit` is the command `fusionkit`."""

from fusionkit.cli import app

app(prog_name="fusionkit")
