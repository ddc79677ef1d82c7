"""The three requests to a vision-language model behind any endpoint that speaks OpenAI's chat protocol."""

from __future__ import annotations

from pathlib import Path

from intarsia.perception.chat_client import ChatClient
from intarsia.perception.errors import NamerError
from intarsia.perception.requests import AskingAdvisor


class ChatNamer(AskingAdvisor):
    """An `AttributeAdvisor`; see `ChatClient` for the arguments."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        retries: int = 2,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.client = ChatClient(
            base_url, model, api_key_env, timeout, retries, cache_dir, NamerError, "try again later, or use yaml:PATH"
        )
        super().__init__(self.client, model)

    @property
    def url(self) -> str:
        """The address that is posted to."""
        return self.client.url

    @property
    def model(self) -> str:
        """The model's name at the endpoint."""
        return self.client.model
