"""Other tools' files and runners: answer files, lmms-eval, VLMEvalKit."""
