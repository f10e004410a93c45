from robointervlm.cli.main import main

main()
