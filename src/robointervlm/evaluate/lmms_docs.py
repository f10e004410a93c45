"""Where task folders that were exported before `evaluate.interop` was made look for what lmms-eval calls."""

from robointervlm.evaluate.interop.lmms_docs import *  # noqa: F403
