"""`GET /v1/models`: what draws here, and what moderates."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel

from service.api.auth import needs
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError, documented

router = APIRouter(prefix="/v1", tags=["models"])


class Model(BaseModel):
    """One model."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "guardrails"


class ModelList(BaseModel):
    """All of them."""

    object: str = "list"
    data: list[Model]


@router.get("/models", responses=documented())
def list_models(caller: Caller = needs("generate"), context: Context = Depends(context_of)) -> ModelList:
    """The drawing model first."""
    return ModelList(data=_models(context))


@router.get("/models/{model}", responses=documented(404))
def get_model(
    model: Annotated[str, Path(max_length=200)],
    caller: Caller = needs("generate"),
    context: Context = Depends(context_of),
) -> Model:
    """One model."""
    for known in _models(context):
        if known.id == model:
            return known
    raise ApiError(404, "model_not_found", "there is no such model", param="model", headers=NO_RETRY)


def _models(context: Context) -> list[Model]:
    return [Model(id=context.settings.model), *(Model(id=f"moderation-{name}") for name in context.policies.all)]
