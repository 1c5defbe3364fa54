"""What the records of report.json have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """A frozen part of the report; unknown fields are refused, and a field's docstring stands in the schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
