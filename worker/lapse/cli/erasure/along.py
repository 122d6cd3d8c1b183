"""What an erasure that has not begun would find, with what goes along though it is not registered as the subject's."""

import json
from collections.abc import Mapping
from dataclasses import replace

from lapse.cli.context import Invocation, RegistryAccess
from lapse.ledger.children import named_below, users
from lapse.ledger.erasure.account import account_with
from lapse.ledger.erasure.request import ErasureAccount, ErasureRequest, Fate
from lapse.policy.preconditions import contained
from lapse.providers.kinds import KINDS, Kind
from lapse.registry import codec, keys
from lapse.registry.model import Resource


async def account_ahead(access: RegistryAccess, session: Invocation, request: ErasureRequest) -> ErasureAccount:
    """Return what a request would find, and what may go along with it as far as the registry says."""
    kinds = {name: KINDS[account.type] for name, account in session.config.accounts.items()}
    account = await account_with(access.ledger, request)
    # A response goes before the conversation that it uses, so that use keeps the conversation only if it stays itself.
    using = await _using(access, account, kinds)
    account = await account_with(access.ledger, request, using) if using else account
    going = {one.resource for one in account.open if one.fate is Fate.PENDING}
    along = {child: parent for child, parent in using.items() if parent in going}
    for name, known in kinds.items():
        parents = sorted(one for one in going if one.provider == name)
        along |= await named_below(access.ledger, parents, contained(dict.fromkeys(known, "delete"), known))
    ids = {one.resource for one in account.ids}
    return replace(account, along=[(child, along[child]) for child in sorted(along) if child not in ids])


async def _using(
    access: RegistryAccess, account: ErasureAccount, kinds: Mapping[str, Mapping[str, Kind]]
) -> dict[Resource, Resource]:
    """Return what uses the ids of a request and goes before them, though it is in none itself, and what each uses."""
    found: dict[Resource, Resource] = {}
    for parent in (one.resource for one in account.ids if one.fate in {Fate.PENDING, Fate.IN_USE}):
        kind = kinds.get(parent.provider, {}).get(parent.kind)
        for child in kind.children if kind else ():
            using = await users(access.ledger, parent, child.kind) if child.users else ()
            found |= {Resource(parent.provider, child.kind, id_): parent for id_ in using}
    ids = {one.resource for one in account.ids}
    strangers = [one for one in found if one not in ids]
    return {one: found[one] for one in strangers if not await _stays(access, one, account.request.subject)}


async def _stays(access: RegistryAccess, one: Resource, subject: str) -> bool:
    """Return True if an id is held, or somebody else's."""
    slot = keys.slot(access.ledger.namespace, one.provider, one.kind)
    held, facts = await access.carrier.run(
        [("HEXISTS", slot + keys.HOLDS, one.id), ("HGET", slot + keys.FACTS, one.id)]
    )
    return bool(held) or any(name != subject for name in codec.subjects_of(json.loads(facts or "{}")))
