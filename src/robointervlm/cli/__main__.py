"""What `python -m robointervlm.cli` runs, as every process that is started does."""

from robointervlm.cli.main import main

main()
