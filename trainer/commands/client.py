"""Being a client: keys, joining, leaving."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from protocol.trainings import Share, TrainingSettings
from trainer.clients.coordinator import Coordinator
from trainer.clients.retries import GIVEN_UP, MEMBER_GIVES_UP_AFTER, ServiceUnreachable
from trainer.clients.service import Service
from trainer.devices import usable_device
from trainer.federation import Participant
from trainer.home import Home
from trainer.inputs import ScorerAt, UsageError, graph_of, progress, scorer_for, secret_in, shared_key_in
from trainer.interactions import Interaction, interaction_of
from trainer.keys import present_key
from trainer.membership import join, leave, opaque_order, require_member, rotate, sign
from trainer.output import Output, print_line
from trainer.prompting import Prompting, prompting_of
from trainer.reports import Report
from trainer.results import rows, table
from trainer.sharing import TextsConsent, relation_columns, shared_dense


@dataclass(frozen=True)
class HomeAt:
    """Where a client's home is: said, or derived of its name, or of the name of its data's folder."""

    home: Path | None = None
    data: str | None = None
    called: str | None = None

    @property
    def name(self) -> str:
        """What people call the client.

        Raises:
            UsageError: Nothing was said of it, or it cannot be a folder's name.
        """
        if self.called and "/" in self.called:
            raise UsageError(f"--name {self.called}: a name may hold no /, as your home is a folder that is called so")
        if self.called or self.data:
            return self.called or Path(str(self.data)).resolve().name
        if self.home:
            return self.home.resolve().name
        raise UsageError("which client is it? Give --home, or --data or --name as to `tripleherd join`")

    def open(self) -> Home:
        """The home."""
        return Home(self.home or Path(".tripleherd") / self.name)


@dataclass(frozen=True)
class JoinOptions:
    """What `join` was told beside where the client's home, graph and scorer are."""

    coordinator: str
    shared_key_file: Path
    invitation_file: Path | None
    texts: TextsConsent
    share: Share
    device: str = "cpu"
    fuse: bool = True
    give_up_after: float = MEMBER_GIVES_UP_AFTER


def run_join(console: Output, at: HomeAt, scorer: ScorerAt, options: JoinOptions) -> None:
    """Take part in a training and print this client's rows."""
    shared_key = shared_key_in(options.shared_key_file)
    invitation = secret_in(options.invitation_file) if options.invitation_file else None
    device, home, name = usable_device(options.device), at.open(), at.name
    with ExitStack() as stack:
        say, now = stack.enter_context(progress(console))
        graph = opaque_order(graph_of(str(at.data), say), shared_key)  # before a home is made for nothing
        stack.enter_context(home.alone())
        coordinator = Coordinator(stack.enter_context(Service("coordinator", options.coordinator, None, say)))
        if home.membership(coordinator.service.url):  # the address is known to be right
            coordinator.service.give_up_after = options.give_up_after
        sign(coordinator, home)
        who = join(coordinator, home, graph, name, shared_key, invitation, options.share)
        say(f"{name} is client {who}")
        coordinator.service.give_up_after = options.give_up_after
        prompting = partial(prompting_of, graph=graph, sources=[str(at.data)], folder=home.path, say=say, now=now)
        made = partial(_interaction, stack, scorer, prompting, device, options.give_up_after, say)
        one = Participant(
            who, name, graph, coordinator, home, made, say, now, options.share, options.texts, options.fuse
        )
        try:
            results = one.run()
        except GIVEN_UP as error:
            raise ServiceUnreachable(f"{error}. Nothing is lost: the same command goes on from here") from error
    shown = table(results, f"{name}: both sides, {results[0].triples if results else 0} test triples")
    console.result(rows(results), shown)


def _interaction(
    stack: ExitStack,
    scorer: ScorerAt,
    prompting: Callable[[TrainingSettings], Prompting],
    device: str,
    give_up_after: float,
    say: Report,
    settings: TrainingSettings,
) -> Interaction:
    """The interaction of a training, whose scorer is closed with the stack.

    Raises:
        UsageError: The training shares other tensors than the interaction has.
    """
    model = stack.enter_context(scorer_for(settings.interaction, scorer, say, settings, give_up_after))
    interaction = interaction_of(settings.interaction, model, settings.local, device, prompting(settings))
    expected = shared_dense(interaction, settings.dim, settings.local)
    dense = {name: each.shape for name, each in expected.items()} == {
        n: each.shape for n, each in settings.dense.items()
    }
    if not dense or settings.relation_dim not in (None, relation_columns(interaction, settings.dim)):
        what = "relation_dim is not that" if dense else "dense tensors are not those"
        raise UsageError(
            f"the training's {what} of `{settings.interaction}`; its operator should stop it "
            "(`tripleherd coordinator stop`) and start it with `tripleherd start`"
        )
    return interaction


def run_leave(console: Output, at: HomeAt, coordinator: str) -> None:
    """Leave a federation."""
    home = at.open()
    with progress(console) as (say, _), Service("coordinator", coordinator, None, say) as service:
        require_member(home, service.url)  # before a home is made for nothing
        with home.alone():
            who = leave(Coordinator(service), home)
        say(f"client {who} has left {service.url}; its key and models stay in {home.path}")
        console.result({"client": who, "coordinator": service.url})


def run_keys(console: Output, at: HomeAt) -> None:
    """Print who a client is; its key is made where there is none."""
    home = at.open()

    say = partial(print_line, console)
    with ExitStack() as stack:
        if not (home.path / "key.pem").exists():
            stack.enter_context(home.alone())
        signer = present_key(home.path, say)
    ids = list(dict.fromkeys([member.client for member in home.memberships()] or [signer.key_id]))
    for who in ids:
        say(f"client id: {who}")
    line = f"{signer.public_key} {at.name}"
    say(f"private key: {home.path / 'key.pem'} (nobody else may have it)")
    say("for the operator's list of keys that may join:")
    say(line)
    console.result({"clients": ids, "private_key": str(home.path / "key.pem"), "line": line})


def run_rotate(console: Output, at: HomeAt, coordinator: str) -> None:
    """Replace a client's key."""
    home = at.open()
    with ExitStack() as stack:
        stack.enter_context(home.alone())
        say, _ = stack.enter_context(progress(console))
        urls = {member.coordinator for member in home.memberships()}
        asked = stack.enter_context(Service("coordinator", coordinator, None, say))
        if urls and asked.url not in urls:
            raise UsageError(f"{home.path} is no member at {asked.url}, but at {', '.join(sorted(urls))}")
        calls = {url: Coordinator(stack.enter_context(Service("coordinator", url, None, say))) for url in urls}
        key = rotate(calls, home, say)
        say(f"the new key is {key.public_key}; its former one is of no use any more")
        console.result({"public_key": key.public_key, "coordinators": sorted(urls)})
