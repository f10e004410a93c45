"""Qwen2.5-VL with a mixture of experts beside the dense MLP of its decoder layers.

Loaded, trained and asked as the dense model is; `robointer convert upcycle` makes one from a dense checkpoint. torch is
imported only when a model is loaded.
"""

from __future__ import annotations

from robointervlm.models.qwen2_5_vl import Section, load

__all__ = ["Section", "load"]
