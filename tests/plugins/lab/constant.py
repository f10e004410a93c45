"""A model family that always says the same."""

from pydantic import BaseModel, ConfigDict

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.prompt import Reply


class Section(BaseModel):
    """What it says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str


def load(section):
    return Constant(section.says)


class Constant:
    coordinates = CoordinateFormat.PIXEL

    def __init__(self, says):
        self.says, self.name, self.fingerprint = says, "constant", f"constant {says}"

    def processed_size(self, image):
        return image

    def answer(self, prompts, decoding):
        return [Reply(self.says, 0.0, 1, 1) for _ in prompts]
