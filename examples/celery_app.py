"""Celery: tasks say whose data they make. Run it in this folder: celery -A celery_app worker.

This is the application's own Celery; lapse's workers are another one. One client for all tasks of a process is enough,
also in prefork: the registry connects anew after a fork.
"""

import os

from celery import Celery
from openai import OpenAI

import lapse

app = Celery("chats", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/1"))
client = lapse.track(OpenAI(), provider="openai", policies={"file": "uploads", "vector_store": "uploads"})


@app.task
def index(user: int, texts: list[str]) -> str:
    """Put texts into a vector store: it and its files are the user's, and the files live as long as it does."""
    with lapse.context(subject=f"user:{user}", labels={"task": "index"}):
        files = [
            client.files.create(file=(f"{number}.txt", text.encode()), purpose="assistants").id
            for number, text in enumerate(texts)
        ]
        return client.vector_stores.create(name=f"user-{user}", file_ids=files).id


@app.task
def forget_user(store: str) -> bool:
    """Delete a store at the user's wish; its files, used by nothing from now on, are for their policy."""
    return client.vector_stores.delete(store).deleted
