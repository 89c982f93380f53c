import json

import httpx
import numpy as np

from protocol import tensors
from services.scorer import pages
from services.scorer.app import create_app
from services.scorer.settings import Settings

from .requests import HIDDEN, QUERY, ST, encode_tensors, vectors


def test_every_example_of_the_api_page_is_answered(client: httpx.Client) -> None:
    examples = {
        "/score": pages.SCORE_EXAMPLES,
        "/encode": pages.ENCODE_EXAMPLES,
        "/encode/gradient": pages.GRADIENT_EXAMPLES,
    }
    for path, bodies in examples.items():
        for body in bodies.values():
            reply = client.post(path, json=body)
            assert reply.status_code == 200, reply.text
            assert reply.json()["revision"] == client.get("/info").json()["revision"]


def test_the_api_page_declares_every_refusal() -> None:
    document = create_app(Settings(model="embedded")).openapi()
    for path in ("/score", "/encode", "/encode/gradient"):
        operation = document["paths"][path]["post"]
        assert set(operation["responses"]) == {"200", "413", "415", "422", "424", "429", "503"}
        assert set(operation["requestBody"]["content"]) == {"application/json", tensors.MEDIA_TYPE}
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    names = set(document["components"]["schemas"])
    assert all(reference.split('"')[0] in names for reference in text.split("#/components/schemas/")[1:])


def test_status_routes(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready"}
    info = client.get("/info").json()
    assert (info["model"], info["hidden"], info["limits"]["max_prompts"]) == ("embedded", HIDDEN, 600)
    assert "Tripleherd scorer" in client.get("/docs").text


def test_scores_are_equal_in_both_forms(client: httpx.Client) -> None:
    entities, relations = vectors(2, 3, HIDDEN), vectors(1, 2, HIDDEN, seed=1)
    body = {
        "entities": [{"vectors": entities[0].tolist(), "name": "x"}, {"vectors": entities[1].tolist()}],
        "relations": [{"vectors": relations[0].tolist()}],
        "triples": [[0, 0, 1], [1, 0, 0]],
    }
    spoken = client.post("/score", json=body)
    parts = {"entities": entities, "relations": relations, "triples": np.array(body["triples"], dtype="i4")}
    sent = tensors.encode(parts, {"entity_texts": {"0": {"name": "x"}}})
    binary = client.post("/score", content=sent, headers=ST)
    assert binary.headers["content-type"] == tensors.MEDIA_TYPE
    found, message = tensors.decode(binary.content, {"scores": tensors.TensorSpec("F32", ("t",))})
    assert found["scores"].tolist() == spoken.json()["scores"]
    assert message["usage"] == spoken.json()["usage"]


def test_states_and_gradients_are_equal_in_both_forms(client: httpx.Client) -> None:
    parts = encode_tensors() | {"grad_states": vectors(3, HIDDEN, seed=2)}
    body = {name: part.tolist() for name, part in parts.items()}
    body |= {name: [{"vectors": block} for block in body[name]] for name in ("entities", "relations")}
    binary = client.post("/encode/gradient", content=tensors.encode(parts), headers=ST)
    specs = {name: tensors.TensorSpec("F32", parts[name].shape) for name in ("entities", "relations")}
    gradients, _ = tensors.decode(binary.content, specs)
    spoken = client.post("/encode/gradient", json=body).json()
    for name in specs:
        assert gradients[name].tolist() == spoken[name]
    del parts["grad_states"], body["grad_states"]
    states = tensors.decode(
        client.post("/encode", content=tensors.encode(parts), headers=ST).content,
        {"states": tensors.TensorSpec("F32", (3, HIDDEN))},
    )[0]["states"]
    assert states.tolist() == client.post("/encode", json=body).json()["states"]


def test_rows_of_text_get_zeros(client: httpx.Client) -> None:
    parts = encode_tensors() | {"grad_states": vectors(3, HIDDEN)}
    sent = tensors.encode(parts, {"entity_texts": {"1": {"name": "x", "text_only": True}}})
    reply = client.post("/encode/gradient", content=sent, headers=ST)
    specs = {name: tensors.TensorSpec("F32", parts[name].shape) for name in ("entities", "relations")}
    gradient = tensors.decode(reply.content, specs)[0]["entities"]
    assert not gradient[1].any()
    assert gradient[0].any()
    spoken = client.post("/encode/gradient", json={**QUERY, "grad_states": [[1.0] * HIDDEN]}).json()
    assert spoken["entities"] == spoken["relations"] == [[]]


def test_texts_without_tensors(client: httpx.Client) -> None:
    parts = {"triples": np.array([[0, 0, 1]], dtype="i4")}
    texts = {
        "entity_texts": {"0": {"name": "aspirin"}, "1": {"name": "headache"}},
        "relation_texts": {"0": {"name": "treats"}},
    }
    found, _ = tensors.decode(
        client.post("/score", content=tensors.encode(parts, texts), headers=ST).content,
        {"scores": tensors.TensorSpec("F32", (1,))},
    )
    short = {"triples": [{"head": "aspirin", "relation": "treats", "tail": "headache"}]}
    assert found["scores"].tolist() == client.post("/score", json=short).json()["scores"]
