"""How a block is shown to a model: as it is, as another kind of block, or as a note that says what is missing."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.attachments import PDF_TEXT_CHARS, kept, render
from power_loop.contracts.model import LLMRequest, ModelCapabilities

UNKNOWN = ModelCapabilities()
BLIND = ModelCapabilities(image_input=False)
DATA = base64.b64encode(b"x" * 30).decode()


def shown(attachment: dict[str, Any], capabilities: ModelCapabilities = UNKNOWN) -> dict[str, Any]:
    return render({"role": "user", "content": [{"type": "attachment", "attachment": attachment}]}, capabilities)["content"][0]


def pdf(text: str) -> str:
    """A one-page document that says ``text``, in base64."""
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream), b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]  # fmt: skip
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    body += b"xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (table, len(body))
    return base64.b64encode(body).decode()


def test_a_message_of_text_is_left_as_it_is() -> None:
    for content in ("hello", [{"type": "text", "text": "hello"}]):
        message = {"role": "user", "content": content}
        assert render(message, BLIND) is message


def test_a_blind_model_sees_a_note_for_every_picture() -> None:
    note = shown({"kind": "image", "data": DATA, "filename": "cat.png", "mime_type": "image/png"}, BLIND)["text"]
    assert note == "[attachment cat.png (image/png, 30 bytes): not shown, this model takes no images]"
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}]}
    assert "https://example.org/cat.png" in render(message, BLIND)["content"][0]["text"]


def test_a_model_that_takes_addresses_only_gets_no_inline_picture() -> None:
    by_address = ModelCapabilities(data_url=False)
    assert shown({"kind": "image", "data": DATA}, by_address)["type"] == "text"
    assert (
        render({"content": [{"type": "image_url", "image_url": {"url": "https://example.org/c"}}]}, by_address)["content"][0]["type"]
        == "image_url"
    )
    assert (
        render({"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,xx"}}]}, by_address)["content"][0]["type"]
        == "text"
    )


def test_the_text_of_a_pdf_stands_in_for_it() -> None:
    text = shown({"kind": "pdf", "data": pdf("Hello paper"), "filename": "a.pdf", "mime_type": "application/pdf"})["text"]
    assert "a.pdf" in text
    assert "Hello paper" in text


def test_a_long_pdf_is_cut_and_says_so() -> None:
    text = shown({"kind": "pdf", "text": "q" * (PDF_TEXT_CHARS + 5), "filename": "a.pdf"})["text"]
    assert text.count("q") == PDF_TEXT_CHARS
    assert "5 more char" in text


def test_a_pdf_that_cannot_be_read_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be extracted" in shown({"kind": "pdf", "data": DATA, "filename": "a.pdf"})["text"]
    monkeypatch.setitem(sys.modules, "pypdf", None)
    assert "power-loop[pdf]" in shown({"kind": "pdf", "data": pdf("Hello"), "filename": "a.pdf"})["text"]


def test_other_kinds_are_named_with_type_and_size(tmp_path: Path) -> None:
    file = tmp_path / "song.mp3"
    file.write_bytes(b"12345")
    note = shown({"kind": "other", "path": str(file), "filename": "song.mp3", "mime_type": "audio/mpeg"})["text"]
    assert note == "[attachment song.mp3 (audio/mpeg, 5 bytes): this kind of file is not shown to the model]"


def test_a_file_that_is_gone_is_a_note() -> None:
    assert "cannot be read" in shown({"kind": "image", "path": "no/such/file.png"})["text"]


def test_a_request_puts_the_system_prompt_first_and_renders_its_files() -> None:
    request = LLMRequest(
        [{"role": "user", "content": [{"type": "attachment", "attachment": {"kind": "image", "data": DATA}}]}], "Be brief."
    )
    system, user = request.to_messages(BLIND)
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"][0]["type"] == "text"


async def test_content_is_kept_with_the_bytes_of_its_files(tmp_path: Path) -> None:
    paper = tmp_path / "paper.txt"
    paper.write_bytes(b"hello")
    blocks = [{"type": "text", "text": "see"}, {"type": "attachment", "attachment": {"path": str(paper)}}]
    held = {"path": str(paper), "data": base64.b64encode(b"hello").decode()}
    assert await kept(blocks) == [blocks[0], {"type": "attachment", "attachment": held}]
    paper.unlink()
    assert await kept([{"type": "attachment", "attachment": held}]) == [{"type": "attachment", "attachment": held}]
    (noted,) = await kept([blocks[1]])
    assert noted == {"type": "text", "text": "[attachment paper.txt (text/plain): the file cannot be read]"}
    assert await kept("text") == "text"


async def test_a_path_that_is_no_text_is_a_file_that_cannot_be_read() -> None:
    (noted,) = await kept([{"type": "attachment", "attachment": {"path": 5}}])
    assert noted == {"type": "text", "text": "[attachment 5 (unknown type): the file cannot be read]"}


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"filename": "cat.jpg"}, {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{DATA}"}}),
        ({"path": "/shots/cat.webp", "kind": "image"}, {"type": "image_url", "image_url": {"url": f"data:image/webp;base64,{DATA}"}}),
        ({"mime_type": "image/gif"}, {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{DATA}"}}),
        (
            {"filename": "a"},
            {"type": "text", "text": "[attachment a (unknown type, 30 bytes): this kind of file is not shown to the model]"},
        ),
    ],
)
def test_what_an_attachment_does_not_say_of_itself_its_name_says(given: dict[str, Any], seen: dict[str, Any]) -> None:
    assert shown({**given, "data": DATA}) == seen


@pytest.mark.parametrize("data", ["abcde", "AAA", "é"])
def test_a_pdf_whose_data_is_no_base64_is_a_note(data: str) -> None:
    assert shown({"kind": "pdf", "data": data, "filename": "a.pdf"})["text"].endswith("the file cannot be read]")
