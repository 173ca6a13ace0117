"""`oq submit chat`, `generate` and `embed`: what people type becomes the payload, and the answer is printed."""

import base64
import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def ollama():
    """The URL of a simulated Ollama, in a process of its own."""
    command = [sys.executable, "-m", "oq_ollama.testing", "--model", "qwen3", "--pace", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture
def chat(oq):
    """Submit a chat with these arguments, and give its payload."""

    def submit(*arguments, stdin=b""):
        return oq("submit", "chat", "--model", "qwen3", *arguments, "--output", "json", stdin=stdin).json["payload"]

    return submit


class TestChat:
    def test_the_answer_is_printed(self, oq, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama)
        answer = oq("submit", "chat", "--model", "qwen3", "--message", "user:Hello, how are you?", "--wait")
        line, _, said = answer.out.partition("\n")
        assert (answer.code, line[0]) == (0, "✓")
        assert said == "This is a simulated answer of qwen3 to: Hello, how are you?\n"

    def test_words_are_printed_as_they_come(self, oq, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama)
        answer = oq("submit", "chat", "--model", "qwen3", "Hello!", "--stream")
        assert answer.out == "This is a simulated answer of qwen3 to: Hello!"
        assert answer.err.lstrip().startswith("✓")

    def test_a_program_gets_the_whole_result(self, oq, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama)
        result = oq("submit", "chat", "--model", "qwen3", "Hello!", "--wait", "--output", "json").json["result"]
        assert result["message"]["role"] == "assistant"
        assert result["usage"]["completion_tokens"] > 0

    def test_a_message_is_never_split_at_its_commas(self, chat):
        messages = chat("--message", "user:Hello, how are you?", "--message", "assistant:fine: thanks")["messages"]
        assert [(message["role"], message["content"]) for message in messages] == [
            ("user", "Hello, how are you?"),
            ("assistant", "fine: thanks"),
        ]

    @pytest.mark.parametrize("text", ["Note: this", "https://example.org is down", "hello"])
    def test_a_text_that_begins_with_no_role_is_the_users(self, chat, text):
        [message] = chat("--messages", text)["messages"]
        assert (message["role"], message["content"]) == ("user", text)

    def test_messages_system_and_text_stand_in_their_order(self, chat):
        messages = chat("--system", "Be brief.", "--message", "assistant:Yes?", "And now?")["messages"]
        assert [message["role"] for message in messages] == ["system", "assistant", "user"]

    def test_a_long_text_may_be_in_a_file_or_piped_in(self, chat, home):
        (home / "prompt.txt").write_text("from a file")
        assert chat("--file", "prompt.txt")["messages"][0]["content"] == "from a file"
        assert chat("--file", "-", stdin=b"piped in")["messages"][0]["content"] == "piped in"
        assert chat("-", stdin=b"piped in")["messages"][0]["content"] == "piped in"

    def test_options_are_numbers_where_they_look_like_them(self, chat):
        options = chat("hi", "--option", "num_ctx=8192", "--option", "temperature=0.5", "--option", 'stop=["x"]')[
            "options"
        ]
        assert (options["num_ctx"], options["temperature"], options["stop"]) == (8192, 0.5, ["x"])

    def test_any_other_field_can_be_set(self, chat):
        assert chat("hi", "--set", "keep_alive=5m")["keep_alive"] == "5m"

    def test_an_image_goes_with_the_last_message(self, chat, home):
        (home / "cat.png").write_bytes(b"a cat")
        *_, message = chat("--message", "assistant:Show me", "What is it?", "--image", "cat.png")["messages"]
        assert message["images"] == [base64.b64encode(b"a cat").decode()]

    def test_the_form_of_the_answer_is_json_or_a_schema(self, chat, home):
        (home / "schema.json").write_text('{"type": "object"}')
        assert chat("hi", "--format", "json")["format"] == "json"
        assert chat("hi", "--format", "@schema.json")["format"] == {"type": "object"}

    def test_another_executor_gets_them_in_its_words(self, oq):
        task = oq(
            "submit",
            "chat",
            "--executor",
            "openai",
            "--model",
            "gpt",
            "hi",
            "--option",
            "temperature=0",
            "--format",
            "json",
            "--output",
            "json",
        ).json
        assert task["executor"] == "openai"
        assert task["payload"]["temperature"] == 0
        assert task["payload"]["response_format"] == {"type": "json_object"}

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "give a text, --message or --file"),
            (("hi", "--file", "x"), "give the text or --file, not both"),
            (("--file", "nosuch"), "--file: nosuch does not exist"),
            (("",), "the text is empty"),
            (("hi", "--option", "num_ctx"), "'num_ctx' is not NAME=VALUE"),
            (("hi", "--format", "yaml"), "'yaml' is neither json nor @"),
            (("hi", "--image", "nosuch"), "--image: nosuch cannot be read"),
            (("hi", "--set", "modell=x"), "unknown field 'modell'"),
            (("hi", "--set", "modell=x", "--wait"), "unknown field 'modell'"),
            (("--message", "user:  "), "expected role:content"),
            (("hi", "--executor", "olama"), "no executor 'olama' is installed"),
        ],
    )
    def test_a_mistake_is_told_with_what_would_be_right(self, oq, arguments, said):
        answer = oq("submit", "chat", "--model", "m", *arguments)
        assert (answer.code, answer.out) == (2, "")
        assert said in answer.err


class TestOthers:
    def test_a_text_that_is_given_twice_is_refused(self, oq):
        answer = oq("submit", "generate", "--model", "m", "--prompt", "a", "b")
        assert answer.code == 2
        assert "give the text or --prompt, not both" in answer.err

    def test_a_text_is_continued(self, oq, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama)
        answer = oq("submit", "generate", "--model", "qwen3", "--prompt", "Once upon", "--wait")
        assert answer.out.endswith("Once upon\n")
        payload = oq("submit", "generate", "--model", "m", "x", "--system", "s", "--output", "json").json["payload"]
        assert (payload["prompt"], payload["system"]) == ("x", "s")

    def test_texts_become_vectors(self, oq, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama)
        answer = oq("submit", "embed", "--model", "qwen3", "--input", "a", "b", "--wait", "--output", "json")
        assert len(answer.json["result"]["embeddings"]) == 2

    def test_a_refused_connection_says_what_to_do(self, oq, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
        answer = oq("submit", "chat", "--model", "m", "hi", "--wait", "--attempts", "1")
        assert answer.code == 1
        assert "ollama serve" in answer.out

    def test_an_unknown_model_says_what_to_do(self, oq, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama)
        answer = oq("submit", "chat", "--model", "nosuch", "hi", "--wait")
        assert answer.code == 1
        assert "ollama pull nosuch" in answer.out

    def test_a_batch_may_hold_all_kinds(self, oq, home, ollama, monkeypatch):
        monkeypatch.setenv("OLLAMA_HOST", ollama)
        entries = [
            {"type": "chat", "model": "qwen3", "messages": [{"role": "user", "content": "hi"}], "priority": "high"},
            {"type": "generate", "model": "qwen3", "prompt": "hi"},
            {"type": "embed", "model": "qwen3", "input": "hi"},
            {"type": "script", "command": "true"},
        ]
        (home / "tasks.json").write_text(json.dumps(entries))
        answer = oq("submit", "batch", "--file", "tasks.json", "--sync")
        assert answer.code == 0
        assert answer.out.endswith("4 tasks: 4 completed\n")
