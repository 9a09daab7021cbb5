"""Signing in and out, joining by invitation, one's own account, and the people as admins see them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from assent.feedback.records import Person
from assent.feedback.store.names import folded
from assent.feedback.store.store import FeedbackStore
from assent.studio.schemas import (
    Id,
    InvitationIn,
    JoinIn,
    MeIn,
    NewPasswordIn,
    PasswordIn,
    PersonIn,
    SignInIn,
    person_out,
)
from assent.studio.security import Admin, Guard, MaybeActor, SignedIn, address_of, guard_of
from assent.studio.threads import in_thread
from assent.web.refused import Refused

_WRONG, _WRONG_PRESENT = "the name or the password is wrong", "the current password is wrong"
_WIDER = 4  # an account from anywhere, and an address for any account, may fail so many times as often as one pair


def accounts_router(store: FeedbackStore) -> APIRouter:
    """The routes about people."""
    router = APIRouter(tags=["people"])
    _add_doors(router, store)
    _add_own(router, store)
    _add_admin(router, store)
    return router


def _add_doors(router: APIRouter, store: FeedbackStore) -> None:
    @router.post("/api/sign-in")
    async def sign_in(request: Request, given: SignInIn, before: MaybeActor) -> Response:
        """Start a sign-in; the answer sets the cookie and tells the CSRF token."""
        guard = guard_of(request)
        person = await _checked(guard, request, given.name, given.password)
        if before is not None:
            await in_thread(store.sign_out, before.token)
            guard.forget()
        return await _signed_in(guard, person)

    @router.post("/api/sign-out")
    async def sign_out(request: Request, actor: SignedIn) -> Response:
        """End this sign-in."""
        guard = guard_of(request)
        await in_thread(store.sign_out, actor.token)
        guard.forget()
        response = JSONResponse({})
        guard.delete_cookie(response)
        return response

    @router.post("/api/join", status_code=201)
    async def join(request: Request, given: JoinIn, _: MaybeActor) -> Response:
        """Accept an invitation: the account is made and signed in."""
        guard = guard_of(request)
        address = ("join", address_of(request))
        guard.attempts.check(address, factor=_WIDER)
        guard.attempts.note(address)
        person = await guard.hashes.run(lambda: store.accept_invitation(given.token, given.name, given.password))
        guard.attempts.forgive(address)
        guard.forget()
        return await _signed_in(guard, person, status=201)


def _add_own(router: APIRouter, store: FeedbackStore) -> None:
    @router.get("/api/me")
    def me(actor: SignedIn) -> dict[str, Any]:
        """Who is signed in, and the CSRF token."""
        return {"person": person_out(actor.person), "csrf": actor.csrf}

    @router.put("/api/me")
    def change_me(request: Request, given: MeIn, actor: SignedIn) -> dict[str, Any]:
        """Choose the topics one does not want to see."""
        topics = tuple(dict.fromkeys(given.topics_declined))
        person = store.update_person(actor.person.id, topics_declined=topics)
        guard_of(request).forget()
        return {"person": person_out(person), "csrf": actor.csrf}

    @router.put("/api/me/password")
    async def change_password(request: Request, given: PasswordIn, actor: SignedIn) -> Response:
        """Change one's password: every sign-in of the person ends, and this browser gets a new one."""
        guard = guard_of(request)
        await _checked(guard, request, actor.person.name, given.old, wrong=_WRONG_PRESENT)
        await guard.hashes.run(lambda: store.set_password(actor.person.id, given.new))
        await in_thread(store.sign_out, actor.token)
        guard.forget()
        return await _signed_in(guard, actor.person)


def _add_admin(router: APIRouter, store: FeedbackStore) -> None:
    @router.post("/api/invitations", status_code=201)
    def invite(given: InvitationIn, _: Admin) -> dict[str, Any]:
        """A link for one new account; it works once."""
        for project_id in given.project_ids:
            store.project(project_id)
        token = store.invite(given.role, given.project_ids, lifetime_s=given.lifetime_s)
        return {"token": token, "path": f"/join/{token}", "role": str(given.role)}

    @router.get("/api/people")
    def people(_: Admin) -> list[dict[str, Any]]:
        """Everybody with an account."""
        return [person_out(person) for person in store.people()]

    @router.get("/api/people/{person_id}")
    def one_person(person_id: Id, _: Admin) -> dict[str, Any]:
        """Somebody with an account."""
        return person_out(store.person(person_id))

    @router.put("/api/people/{person_id}")
    def change_person(request: Request, person_id: Id, given: PersonIn, _: Admin) -> dict[str, Any]:
        """Change somebody's role, or close and reopen their account."""
        changed = store.update_person(person_id, role=given.role, active=given.active)
        guard_of(request).forget()
        return person_out(changed)

    @router.put("/api/people/{person_id}/password")
    async def give_password(request: Request, person_id: Id, given: NewPasswordIn, _: Admin) -> dict[str, Any]:
        """Give somebody who forgot theirs a new password; their sign-ins end."""
        guard = guard_of(request)
        person = await in_thread(store.person, person_id)
        await guard.hashes.run(lambda: store.set_password(person_id, given.new))
        guard.forget()
        return person_out(person)


async def _checked(guard: Guard, request: Request, name: str, password: str, *, wrong: str = _WRONG) -> Person:
    """Who has this name and password; Refused (401, 429), with no word on which of the two was wrong."""
    account, address = folded(name), address_of(request)
    pair, wider = ("sign-in", account, address), (("account", account), ("address", address))
    guard.attempts.check(pair)
    guard.attempts.check(*wider, factor=_WIDER)
    guard.attempts.note(pair, *wider)
    person = await guard.hashes.run(lambda: guard.store.check_password(name, password))
    if person is None:
        raise Refused(401, wrong, now="Try again, or ask an admin for a new password.")
    guard.attempts.clear(pair)
    guard.attempts.forgive(*wider)
    return person


async def _signed_in(guard: Guard, person: Person, *, status: int = 200) -> Response:
    lifetime_s = guard.settings.sign_in_lifetime_s
    sign_in = await in_thread(lambda: guard.store.sign_in(person.id, lifetime_s=lifetime_s))
    response = JSONResponse({"person": person_out(person), "csrf": sign_in.csrf}, status)
    guard.set_cookie(response, sign_in.token)
    return response
