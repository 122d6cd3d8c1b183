"""Django: a middleware says whose data a request makes. Run it: python examples/django_app.py runserver."""

import sys
from collections.abc import Callable

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_http_methods
from openai import OpenAI

import lapse

client = lapse.track(OpenAI(), provider="openai", policies={"conversation": "chat"}, require=("subject",))


def subject_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Say of everything that a request creates whose it is: after your authentication, ``request.user.pk``."""

    def respond(request: HttpRequest) -> HttpResponse:
        with lapse.context(subject=f"user:{request.headers.get('X-User', 'anonymous')}", labels={"app": "django"}):
            return get_response(request)

    return respond


@require_http_methods(["POST"])
def create(_request: HttpRequest) -> HttpResponse:
    """Begin a chat."""
    return JsonResponse({"id": client.conversations.create().id})


@require_http_methods(["GET", "DELETE"])
def chat(request: HttpRequest, chat_id: str) -> HttpResponse:
    """Show a chat, which is a use of it, or delete it."""
    if request.method == "DELETE":
        return JsonResponse({"deleted": client.conversations.delete(chat_id).deleted})
    return JsonResponse({"items": len(list(client.conversations.items.list(chat_id)))})


urlpatterns = [path("chats", create), path("chats/<str:chat_id>", chat)]

settings.configure(
    SECRET_KEY="only-for-this-example",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.subject_middleware"],
)
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
