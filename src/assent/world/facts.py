"""Facts about people, towns and things: `subject phrase value.`, one sentence form per relation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from assent.seeds import derive, python_rng
from assent.world import lexicon
from assent.world.lexicon import HELD_OUT, POOLS, TRAIN

PEOPLE_COUNT = 120
TOWN_COUNT = 32
HELD_OUT_SHARE = 4  # one person, town, thing and pair of words in four is kept for held-out prompts

Key = tuple[str, str, str]  # relation, subject, value in lower case


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """How a relation is stated, asked for and declared unknown; `{s}` stands for the subject."""

    name: str
    subject: str  # "person", "town" or "thing"
    phrase: str
    value: str  # the pool of its values
    questions: tuple[str, ...] = ()
    unknown: str = ""
    stated: bool = True  # False: asked for, but the world never says it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One relation between a subject and a value; true or not is for the world or the notes to say."""

    relation: str
    subject: str
    value: str

    @property
    def sentence(self) -> str:
        """The one way in which this fact is stated."""
        text = f"{self.subject} {RELATIONS[self.relation].phrase} {self.value}."
        return text[0].upper() + text[1:]

    @property
    def key(self) -> Key:
        """What is compared: case does not matter."""
        return (self.relation, self.subject.lower(), self.value.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that is true. Subjects of the held-out part occur in statements and claims but in no dialogue."""

    seed: int
    facts: tuple[Fact, ...]
    people: Mapping[str, tuple[str, ...]]  # by split
    towns: Mapping[str, tuple[str, ...]]
    things: Mapping[str, tuple[str, ...]]
    by_subject: Mapping[str, Mapping[str, Fact]]  # subject -> relation -> fact
    truths: frozenset[Key]
    names: frozenset[str]

    def subjects(self, split: str) -> tuple[str, ...]:
        """Everyone and everything of one part."""
        return (*self.people[split], *self.towns[split], *self.things[split])

    def holds_out(self, pair: str) -> bool:
        """Whether a name or another pair of words is kept for held-out prompts."""
        return split_of(pair) == HELD_OUT or pair in self.people[HELD_OUT] or pair in self.towns[HELD_OUT]

    def fact(self, subject: str, relation: str) -> Fact:
        """The true fact; the subject must have the relation."""
        return self.by_subject[subject][relation]


_STATED = (  # name, subject, phrase, pool of values, what is unknown, questions
    ("home", "person", "lives in", "town", "where {s} lives", "Where does {s} live?", "Where is the home of {s}?"),
    ("job", "person", "works as a", "job", "what job {s} has", "What job does {s} have?", "What is the job of {s}?"),
    ("pet", "person", "keeps a", "pet", "which pet {s} keeps", "Which pet does {s} keep?", "What is the pet of {s}?"),
    ("food", "person", "likes", "food", "what food {s} likes", "What food does {s} like?",
     "What does {s} like to eat?"),
    ("region", "town", "lies in the", "region", "where {s} lies", "Where does {s} lie?", "In which region is {s}?"),
    ("known", "town", "is known for", "good", "what {s} is known for", "What is {s} known for?",
     "What is {s} famous for?"),
    ("material", "thing", "is made of", "material", "what {s} is made of", "What is {s} made of?",
     "Of what is {s} made?"),
    ("origin", "thing", "comes from", "town", "where {s} comes from", "Where does {s} come from?",
     "Which town is {s} from?"),
)  # fmt: skip
_UNSTATED = (
    ("age", "person", "is aged", "age", "how old {s} is", "How old is {s}?", "What is the age of {s}?"),
    ("song", "person", "sings about", "song", "what {s} sings about", "What does {s} sing about?",
     "What are the songs of {s} about?"),
    ("birth", "person", "was born in", "season", "when {s} was born", "When was {s} born?",
     "In which season was {s} born?"),
    ("fear", "person", "is afraid of", "fear", "what {s} is afraid of", "What is {s} afraid of?",
     "What does {s} fear?"),
)  # fmt: skip
_ALL = (
    *(
        Relation(
            name=name, subject=subject, phrase=phrase, value=value, unknown=unknown, questions=tuple(questions),
            stated=rows is _STATED,
        )
        for rows in (_STATED, _UNSTATED)
        for name, subject, phrase, value, unknown, *questions in rows
    ),
    *(Relation(name=deed, subject="person", phrase=f"{deed} a", value="event") for deed in lexicon.DEEDS),
)  # fmt: skip
RELATIONS: Mapping[str, Relation] = {relation.name: relation for relation in _ALL}


def not_knowing(relation: str, subject: str) -> str:
    """The sentence that admits not to know a relation of a subject."""
    return f"I do not know {RELATIONS[relation].unknown.format(s=subject)}."


def build_world(seed: int = 0) -> World:
    """The world of a seed: the same on every machine; both parts have their own people, towns and things."""
    rng = python_rng(seed, "world")
    people = _parts(rng.sample([f"{a} {b}" for a in lexicon.FIRST for b in lexicon.LAST], PEOPLE_COUNT))
    names = [f"{a} {b}" for a in lexicon.TOWN_FIRST for b in lexicon.TOWN_LAST]
    by_first_word: dict[str, str] = {}  # no two towns begin with the same word, so that none is taken for another
    for name in rng.sample(names, len(names)):
        by_first_word.setdefault(name.split()[0], name)
    towns = _parts(list(by_first_word.values())[:TOWN_COUNT])
    things = _parts(rng.sample([f"the {thing}" for thing in lexicon.THINGS], len(lexicon.THINGS)))
    subjects = {"person": people, "town": towns, "thing": things}
    facts: list[Fact] = []
    for split, relation in product((TRAIN, HELD_OUT), _ALL):
        if relation.value == "event" or not relation.stated:
            continue
        # towns of both parts are values, as jobs are; who lives where is the part's own
        pool = [*towns[TRAIN], *towns[HELD_OUT]] if relation.value == "town" else list(POOLS[relation.value])
        values: list[str] = []
        for subject in subjects[relation.subject][split]:
            values = values or rng.sample(pool, len(pool))  # every value is used about equally often
            facts.append(Fact(relation=relation.name, subject=subject, value=values.pop()))
    by_subject: dict[str, dict[str, Fact]] = {}
    for fact in facts:
        by_subject.setdefault(fact.subject, {})[fact.relation] = fact
    return World(
        seed=seed,
        facts=tuple(facts),
        people=people,
        towns=towns,
        things=things,
        by_subject=by_subject,
        truths=frozenset(fact.key for fact in facts),
        names=frozenset(name for half in (people, towns) for names in half.values() for name in names),
    )


def _parts(items: list[str]) -> dict[str, tuple[str, ...]]:
    held_out = len(items) // HELD_OUT_SHARE
    return {TRAIN: tuple(items[held_out:]), HELD_OUT: tuple(items[:held_out])}


def fresh_person(world: World, split: str, rng: Random, *, but: Collection[str] = ()) -> str:
    """A made-up name that is nobody's in the world nor in `but`; the two splits never share one."""
    return fresh_pair(split, rng, lexicon.FIRST, lexicon.LAST, but={*world.names, *but})


def fresh_town(world: World, split: str, rng: Random, *, but: Collection[str] = ()) -> str:
    """A made-up town that is not in the world nor in `but`; the two splits never share one."""
    return fresh_pair(split, rng, lexicon.TOWN_FIRST, lexicon.TOWN_LAST, but={*world.names, *but})


def fresh_things(split: str, rng: Random) -> str:
    """Things of one kind ("the wet melons"); the two splits never share any."""
    return f"the {fresh_pair(split, rng, lexicon.ADJECTIVES, lexicon.OBJECTS)}"


def fresh_pair(
    split: str, rng: Random, first: Sequence[str], second: Sequence[str], *, joint: str = " ", but: Collection[str] = ()
) -> str:
    """Two different words that belong together to one split: neither word tells which, for both splits use both."""
    while True:
        one, other = rng.choice(first), rng.choice(second)
        name = f"{one}{joint}{other}"
        if one != other and name not in but and split_of(name) == split:
            return name


def split_of(pair: str) -> str:
    """To which split a pair of words belongs."""
    return HELD_OUT if derive(0, "pair", pair) % HELD_OUT_SHARE == 0 else TRAIN


def other_value(world: World, fact: Fact, rng: Random) -> str:
    """A value of the right type that is not this fact's; towns of either part, for both are lived in."""
    kind = RELATIONS[fact.relation].value
    pool = (*world.towns[TRAIN], *world.towns[HELD_OUT]) if kind == "town" else POOLS[kind]
    return rng.choice([value for value in pool if value != fact.value])
