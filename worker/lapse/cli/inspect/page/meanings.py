"""What each class of halt means, in the words of ``deploy/runbooks/LapseHalted.md``. No I/O."""

MEANINGS = {
    "cutoff_jumped": (
        "much would become due at once: a shortened ttl, a changed anchor, a first enforcement, ids of an old"
        " name; or what nobody can count: a keep rule taken away"
    ),
    "no_witness": "the provider knows none of the ids, not even the newest: a wrong key, project or base URL",
    "inconsistent_absence": "an id was not found, and then it was there, with the same key",
    "gone_wall": (
        'of the policy\'s last answers more than `max_already_gone` say "not found": settled as already gone, '
        "one after the other"
    ),
    "principal_unproven": (
        "a worker's key does not see what was registered before it appeared; the other workers go on"
    ),
    "unrecordable": "Redis refuses to record the outcome of one deletion",
    "endpoint_missing": "an unknown 404, and a request that needs no id fails too",
    "unrecognised": "three ids of one sweep met an answer that nobody knows",
    "sunset": "the provider has shut this endpoint down",
    "no_touches": "the policy counts from last activity, and none was ever recorded",
    "no_uses": "an orphan rule, and no registration ever said what it uses",
    "uses_exceeded": (
        "an application could not say all that one id uses (1,000 a call, 20,000 an id): what is listed may "
        "be in use unseen"
    ),
    "listing_shrunk": "three lists in a row had less than half of the objects expected",
    "orphan_share": "more than `orphan.max_share` of a listing would go",
    "config_divergence": "a worker has rules that a newer worker has replaced",
    "identity_changed": "`base_url`, `organization` or `project` is another than when these ids were first deleted",
    "registry_lost": "the registry that workers knew is gone, or another one",
    "registry_rolled_back": "an older state of the registry was restored",
    "registry_unfit": "the Redis may evict registered ids, or persists nothing: its settings were changed",
    "moved": "`lapse export --move` took everything into another registry",
    "half_imported": "`lapse import` of an export goes on, or ended in the middle",
    "registry_damaged": (
        "a key of Redis that protects ids is gone, or an older copy: holds, uses, forgotten ids, a pause"
    ),
    "older_than_registry": "unused objects from before this registry began: it may not know what uses them",
    "clock_jumped": (
        "Redis TIME, which decides what is due, jumped by more than a minute, or is more than five from this "
        "host's clock and the provider's"
    ),
}
UNKNOWN = "a reason that this version of lapse does not know"
