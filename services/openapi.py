"""What both services' OpenAPI pages share: problems with examples, bodies that routes read by hand, stable ids."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from protocol.problems import MEDIA_TYPE, InvalidRequest, Problem, ProblemError
from services.web import JSON


def problems(*kinds: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may refuse in these ways, each with an example, for the OpenAPI page."""
    return {kind.status: _problem_response(kind) for kind in kinds}


def _problem_response(kind: type[ProblemError]) -> dict[str, Any]:
    invalid = InvalidRequest.of("seed", "Input should be greater than or equal to 0")
    problem = invalid if kind is InvalidRequest else kind(kind.meaning())
    example = problem.document().model_dump(mode="json")
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    headers = {name: {"schema": {"type": "string"}, "example": value} for name, value in problem.headers.items()}
    return {"description": kind.title, "content": content} | ({"headers": headers} if headers else {})


def body_of(model: type[BaseModel], examples: dict[str, Any], *, tensors: str | None = None) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its own body: JSON of `model`, and safetensors where described."""
    ref = {"$ref": f"#/components/schemas/{model.__name__}"}
    content: dict[str, Any] = {JSON: {"schema": ref, "examples": {k: {"value": v} for k, v in examples.items()}}}
    if tensors:
        content["application/safetensors"] = binary(tensors)
    return {"requestBody": {"required": True, "content": content}}


def binary(description: str) -> dict[str, Any]:
    """The OpenAPI media type object of a safetensors body."""
    return {"schema": {"type": "string", "format": "binary", "description": description}}


def operation_id(route: APIRoute) -> str:
    """An operation's id in the OpenAPI page: the name of the route's function, which clients' generators call it by."""
    return route.name


def install_openapi(app: FastAPI, models: Sequence[type[BaseModel]]) -> None:
    """Make `app.openapi` add the schemas of models that routes read by hand, and of `Problem`."""
    every: list[type[BaseModel]] = [Problem, *models]

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            template = "#/components/schemas/{model}"
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in every:
                schema = model.model_json_schema(ref_template=template)
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            for operation in (each for methods in document["paths"].values() for each in methods.values()):
                operation["responses"].setdefault("500", _problem_response(ProblemError))
            # Every body is checked by this project's own handlers, which answer problem documents.
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]  # the way FastAPI documents
