"""An LLM service: an ingress that speaks OpenAI's protocol, and an engine behind it that Serve scales."""

import asyncio
import random

from fastapi import FastAPI, Response
from pydantic import BaseModel
from ray import serve

from pytest_serve_chaos.apps.answers import PARENT_HEADER, REPLICA_HEADER, who_am_i

api = FastAPI()


class Chat(BaseModel):
    """What a user sends."""

    model: str
    messages: list[dict[str, str]]


@serve.deployment
class Engine:
    """Stands for vLLM or the like: it takes about two seconds for an answer, and has several at a time."""

    async def generate(self, messages):
        """The answer, and which replica gave it."""
        await asyncio.sleep(random.uniform(1.6, 2.4))
        return f"You said: {messages[-1]['content']}", who_am_i()


@serve.deployment
@serve.ingress(api)
class Ingress:
    """Takes the requests, and asks the engine."""

    def __init__(self, engine):
        self.engine = engine

    @api.post("/v1/chat/completions")
    async def complete(self, chat: Chat, response: Response):
        """One answer, as a whole."""
        text, engine = await self.engine.generate.remote(chat.messages)
        response.headers.update({**engine, PARENT_HEADER: who_am_i()[REPLICA_HEADER]})
        return {
            "object": "chat.completion",
            "model": chat.model,
            "choices": [{"message": {"role": "assistant", "content": text}}],
        }


app = Ingress.bind(Engine.bind())
