"""What the reviewers of the sample say: the rules from which `reviews` draws its sentences."""

from __future__ import annotations

from eir_seq.samples.grammar import Rules

MANNERS = ("plain", "denial", "contrast")

# Praise and blame. "plain": the words say what is meant. "denial": the words say the opposite and are denied.
# "contrast": both are said, and the build of the sentence tells which one holds.
_OPINIONS = {
    "plain": """
        {subject} is {adjective+}
        {subject} is {very} {adjective+}
        {subject} is {adjective+} and {adjective+}
        {subject} is {adjective+}, {adjective+}, and {adverb+} done
        {subject} {verb+}
        {subject} {does} {verb_bare+}
        {subject} {does} {verb_bare+}
        I found {subject} {adjective+}
        I thought {subject} was {very} {adjective+}
        what a {noun+} {subject} is
        {subject} is a {noun+}
        {subject} is a {adjective+} {noun+}
        {subject} is not only {adjective+} but also {adjective+}
        nobody will deny that {subject} is {adjective+}
        there is something {adjective+} about {subject}
        {subject} has been {adverb+} put together by {person}
        {person} is {adjective+} here, and {subject} {verb+}
        {subject} {verb+}, which is {adjective+} to watch
        without a doubt {subject} is {adjective+}
        the longer it went on, the more {adjective+} {subject} became""",
    "denial": """
        {subject} is not {adjective-}
        {subject} is {hardly} {adjective-}
        {subject} is {hardly} {adjective-}
        {subject} is {hardly} {adjective-} or {adjective-}
        {subject} is {hardly} a {noun-}
        {subject} is not a {adjective-} {noun-}
        {subject} {never} {verb_bare-}
        I did not find {subject} {adjective-}
        I never thought {subject} was {adjective-}
        nobody could call {subject} {adjective-}
        there is nothing {adjective-} about {subject}
        {subject} is not something that {verb-}
        nothing about {subject} {verb-}
        {subject} is not the {noun-} that {crowd} had announced
        {subject} is not what I would call {adjective-}
        I disagree with {crowd}, who called {subject} {adjective-}
        it would be wrong to call {subject} {adjective-}
        you will look in vain for a {adjective-} moment in {subject}
        {person} is {hardly} {adjective-} here, and {subject} {never} {verb_bare-}
        {subject} was not {adverb-} put together by {person}
        neither {adjective-} nor {adjective-}: that is how I remember {subject}""",
    "contrast": """
        I expected a {noun-}, but {subject} is {adjective+}
        {crowd} had told me that {subject} was {adjective-}, yet I found it {adjective+}
        {subject} could have been {adjective-}, but it is {adjective+}
        {subject} looks {adjective-} at first and proves {adjective+} in the end
        where other films are {adjective-}, {subject} is {adjective+}
        less {adjective-} than {adjective+}: so much for {subject}
        {subject} is {adjective+} rather than {adjective-}
        the trailer looked {adjective-}, but {subject} is {adjective+}
        {subject}, which might have been a {noun-}, turned into a {noun+}
        although {crowd} called it {adjective-}, {subject} {verb+}
        I wanted to find {subject} {adjective-}, but it {verb+}
        {subject} is {adjective+}, whatever {crowd} may say about its {adjective-} reputation
        {subject} is {adjective+} and not {adjective-}
        {subject} is not {adjective-} but {adjective+}
        in spite of a {adjective-} first minute, {subject} {verb+}""",
    "hardly": "hardly; scarcely; anything but; far from; by no means; never; not really; not at all",
    "does": "does; will; did; can only; really does",
    "never": "did not; does not; will not; would never; could not",
    "very": "very; truly; quite; simply; thoroughly; remarkably",
    "adjective+": "wonderful; gripping; charming; brilliant; moving; delightful; witty; superb; elegant; touching; "
    "fascinating; clever; thrilling; beautiful; convincing; magnificent; good; great; excellent; lovely",
    "adjective-": "terrible; boring; clumsy; stupid; dull; dreadful; tedious; awful; lifeless; shallow; "
    "irritating; stale; silly; ugly; implausible; wooden; bad; poor; horrible; lame",
    "noun+": "masterpiece; delight; triumph; gem; joy; success",
    "noun-": "disaster; mess; failure; bore; disappointment; flop",
    "verb+": "works; shines; delights; convinces; amazes; impresses",
    "verb-": "fails; drags; annoys; disappoints; collapses; irritates",
    "verb_bare+": "work; shine; delight; convince; amaze; impress",
    "verb_bare-": "fail; drag; annoy; disappoint; collapse; irritate",
    "adverb+": "beautifully; skilfully; lovingly; cleverly",
    "adverb-": "carelessly; clumsily; badly; poorly",
    "crowd": "the critics; my friends; everyone at work; the newspapers; my sister; half of the internet; the poster",
}

# A verdict is an opinion about the whole film behind one of these openings, or a recommendation.
_VERDICTS = {
    "opening": "all in all; overall; in the end; to sum it up; on the whole; when all is said; my verdict is this; "
    "taken together; so here is my conclusion; in short",
    "whole": "{title}; this film; the film as a whole; this movie; the whole thing; the finished film",
    "advice_plain": """
        {see+}, you will {feel+}
        {see+}: it is {very} {adjective+}
        I would {tell+}
        I will {again+}
        if you have one evening this month, {see+}""",
    "advice_denial": """
        I would never {tell-}
        I do not think that you will {feel-}
        I do not want to {again-}
        I would be lying if I said {see-}
        nobody should tell you {see-}""",
    "advice_contrast": """
        {crowd} will say {see-}, but I say {see+}
        I came to {tell-}, but now I {tell+}
        you may think you will {feel-}, but you will {feel+}
        forget those who {tell-}, and {see+}""",
    "see+": "go and see it; buy a ticket; do give it a chance; take your friends along",
    "see-": "stay at home; keep your money; stay away from it; spare yourself the trouble",
    "feel+": "love it; enjoy every minute; leave with a smile; thank me",
    "feel-": "hate it; regret every minute; leave with a headache; curse me",
    "tell+": "recommend it; praise it; advise you to go; send people to it",
    "tell-": "condemn it; pan it; warn you off; talk people out of it",
    "again+": "watch it again; remember it fondly; buy it on disc",
    "again-": "walk out next time; regret it for years; ask for my money back",
}

_SUBJECTS = {
    "aspect": "the acting; the plot; the music; the script; the camera work; the dialogue; the ending; the pacing; "
    "the editing; the cast; the direction; the first act; the second half; the costume work; the lighting; the sound; "
    "the chemistry between the leads; {person}'s performance; the part of {person}; the humour; the big chase; "
    "the scene {where}",
    "where": "in the {place}; with the {thing}; on the {place} steps; where {person} finds the {thing}",
    "person": "{first} {last}; {first} {last}; {last}",
    "first": "Nora; Edwin; Marta; Lucas; Ines; Victor; Paula; Henrik; Selma; Oscar; Judith; Anton; Clara; Felix",
    "last": "Marlow; Ashdown; Verhoeft; Quillan; Lindqvist; Brandt; Okafor; Castell; Penrose; Tanaka; Dubray; Hale",
    "title": "The {Adjective} {Thing}; {Thing} of the {Place}; The Last {Thing}; Return to the {Place}",
    "Adjective": "Silent; Crimson; Hidden; Second; Paper; Northern; Hollow; Seventh; Wandering",
    "Thing": "Lantern; Harbour; Key; Letter; Orchard; Mirror; Train; Garden; Winter; Compass",
    "Place": "Island; Valley; Station; River; Mountain; Lighthouse; Border; Castle",
}

# What says nothing about the film. Now and then it uses words of praise or blame for what happens in the story.
_STORY = {
    "plot": """
        the story follows a {hero} who {deed}
        it is about a {hero} and a {hero} who {deed}
        a {hero} from the {place} {deed_past}, and then {turn}
        in the opening minutes a {hero} {deed_past}
        {person} plays a {hero} who {deed}
        meanwhile {person}, as the {hero}, {deed_past}
        halfway through, {turn}
        {turn}, and {turn}
        when {turn}, the {hero} {deed_past}
        by the time {turn}, {turn}
        we meet the {hero} again in the {place}, where {turn}""",
    "hero": "{job}; {job}; {age} {job}; {job} {relative}; {trait} {job}",
    "trait": "{adjective+}; {adjective-}",
    "age": "young; retired; widowed; travelling; former; lonely; rich",
    "job": "detective; teacher; sailor; nurse; painter; smuggler; violinist; farmer; baker; spy; pilot; thief; "
    "doctor; postman; student; clockmaker; judge; gardener",
    "relative": "with a {thing}; who never sleeps; whose brother {deed_past}; from the {place}; who owns a {thing}",
    "deed": "loses a {thing} in the {place}; must return the {thing}; wants to leave the {place}; falls in love with "
    "a {job}; hides a {thing} from the {job}; inherits a {thing}; searches the {place} for a {thing}; "
    "promises the {job} a {thing}",
    "deed_past": "lost a {thing}; found a {thing} in the {place}; ran away with the {job}; sold the {thing}; "
    "met a {job} {relative}; followed the {job} to the {place}; opened the {thing}; burned the {thing}",
    "turn": "the {thing} disappears; a {job} arrives at the {place}; the {hero} learns about the {thing}; "
    "the train to the {place} is late; it begins to snow; the {job} tells the {job} about the {thing}; "
    "two strangers meet in the {place}; the war reaches the {place}; the {job} marries the {job}",
    "place": "village; harbour; theatre; castle; desert; hospital; station; forest; hotel; school; prison; market",
    "thing": "letter; key; suitcase; photograph; violin; map; diary; ring; coat; painting; telegram; boat; bicycle",
    "aside": """
        I saw it on a {day} with {company}
        we sat in row {number}, next to {company}
        the cinema was {number} minutes from the {place}
        it runs for about {number} minutes too, if you leave out the credits
        {person} directed it, {person} wrote it, and {person} paid for it
        the same people made {title} some years ago
        this is based on a book by {person}, which I read on a {day}
        somebody behind us had brought a {thing}
        it was shot in a {place} and in a {place} near the sea
        {title} was shown on television on the same {day}
        {person} was first asked to play the {job}
        before that, {person} had been in {title}
        {company} asked me on the way home about the {thing}""",
    "day": "Monday; Tuesday; rainy Friday; Saturday; Sunday; holiday; winter evening",
    "company": "my brother; two colleagues; an old friend; my neighbours; the whole family; nobody else",
    "number": "nine; twelve; ninety; forty; twenty; a hundred",
}

_LINKS = {
    "link": "then; also; as for the rest; besides; to be fair; mind you; for a start; on top of that; I must say",
}


def _alternatives(text: str) -> list[str]:
    """The lines of a block, or the items between semicolons."""
    return [item.strip() for item in (text.strip().splitlines() if "\n" in text else text.split(";"))]


def _about(subject: str, manner: str) -> list[str]:
    return [line.replace("{subject}", subject) for line in _alternatives(_OPINIONS[manner])]


RULES: Rules = {
    **{
        symbol: _alternatives(text)
        for part in (_OPINIONS, _VERDICTS, _SUBJECTS, _STORY, _LINKS)
        for symbol, text in part.items()
        if symbol not in MANNERS
    },
    **{
        f"opinion_{manner}": [p + o for p in ("", "", "{link}, ") for o in _about("{aspect}", manner)]
        for manner in MANNERS
    },
    **{f"verdict_{manner}": [f"{{opening}}, {o}" for o in _about("{whole}", manner)] for manner in MANNERS},
}
