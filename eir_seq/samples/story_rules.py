"""How the stories of the sample are told: the rules from which `stories` draws its sentences.

Symbols in braces that no rule here explains (hero, he, helper, gift ...) are settled once for each story.
"""

from __future__ import annotations

NAMES = {
    "she": ["Anna", "Mira", "Lena", "Tilda", "Rosa", "Ida", "Nora", "Edda", "Clara", "Vera", "Hanna", "Greta"],
    "he": ["Tom", "Emil", "Jakob", "Oskar", "Paul", "Anton", "Felix", "Karl", "Hugo", "Simon", "Leo", "Max"],
}
PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "child": "girl", "grown": "woman"},
    "he": {"he": "he", "him": "him", "his": "his", "child": "boy", "grown": "man"},
}
ANIMALS = ["fox", "hare", "owl", "crow", "hedgehog", "badger", "otter", "heron", "mole", "squirrel", "toad", "goat"]
HOMES = ["village", "mill", "farm", "fishing town", "cottage by the lake", "house at the edge of the wood"]
ELDERS = ["grandmother", "grandfather", "aunt", "uncle", "old teacher"]

WISHES = {
    "bell": ("the silver bell of the tower", "rang over the roofs", "nobody knew the hour any more"),
    "lamp": ("the lamp of the lighthouse", "shone over the water", "the boats could not find the harbour"),
    "seed": ("the seed of the golden apple", "grew in the garden", "no tree would bear fruit"),
    "book": ("the book of old songs", "lay open on the table", "nobody could remember a single song"),
    "key": ("the key of the granary", "hung on its nail", "the bread was nearly eaten"),
    "clock": ("the wheel of the great clock", "turned as it should", "every day was as long as two"),
}
"""What was lost: how it is called, what it did once it was back, and what its loss meant."""

GIFTS = {
    "rope": ("a rope of grey wool", "threw the rope over a branch and climbed", ("cliff", "deep well", "broken stair")),
    "flute": ("a small flute", "played the flute until the water fell asleep", ("wild river", "angry sea", "flood")),
    "lantern": (
        "a lantern without oil",
        "lifted the lantern, and it gave light",
        ("dark cave", "night", "black tunnel"),
    ),
    "feather": ("a white feather", "blew on the feather and crossed like the wind", ("wide gorge", "ditch", "swamp")),
    "thread": ("a red thread", "tied the thread to the gate and never went astray", ("maze", "fog", "thick forest")),
    "nut": (
        "a walnut that rattled",
        "cracked the nut, and a bridge of twigs grew from it",
        ("moat", "torn path", "ravine"),
    ),
}
"""What helpers give: how it is called, how it is used, and against which obstacles it helps."""

RULES = {
    "opening": """
        once there was a {child} called {hero}, who lived in a {home} with {his} {elder}
        in a {home} far from here lived a {child} whose name was {hero}
        {hero} was the youngest {child} of the {home}, and {he} was {mood}
        long ago, when {season} came late, a {child} called {hero} lived in a {home}""",
    "loss": """
        one morning {lost} was gone, and {plight}
        but in that {season} a thief took {lost}, and {plight}
        then somebody stole {lost}, and from that day on {plight}""",
    "leaving": """
        "I will bring it back," said {hero}, and {his} {elder} gave {him} {food} for the way
        {hero} put {food} into a bag, kissed {his} {elder} and set out
        so {hero} said goodbye to {his} {elder} and walked {where}""",
    "walking": """
        {he} walked {where} {time}
        {time} {he} went {where}
        the way led {where}, and {he} was {mood}""",
    "trouble": """
        there {he} met a {helper} who {grief}
        by the road sat a {helper} who {grief}
        behind a stone {he} found a {helper} who {grief}""",
    "grief": """
        had a thorn in the paw
        was caught in a net
        had not eaten for {number} days
        had lost the way home
        was too tired to go on""",
    "kindness": """
        {hero} helped the {helper} and shared {his} {meal}
        {hero} stayed {time} and did what {he} could for the {helper}
        without a word {hero} sat down and helped the {helper}""",
    "giving": """
        "you were good to me," said the {helper}, "so take {gift}, and use it when you see no other way"
        the {helper} thanked {him} and gave {him} {gift}
        "take {gift}," said the {helper}, "you will need it sooner than you think" """,
    "barrier": """
        soon {he} came to a {obstacle}, and nobody could pass it
        {time} a {obstacle} lay before {him}
        but then there was a {obstacle}, and {hero} was {fear}""",
    "use": """
        {he} remembered the {helper}, took {gift_short} out of the bag and {used}
        then {he} thought of what the {helper} had said; {he} {used}
        "the {helper} was right," thought {hero}, and {he} {used}""",
    "finding": """
        at the end of the way, in {place}, {he} found {lost}
        {hero} looked into {place}, and there was {lost}
        in {place} slept the thief, a {thief}, and beside the thief lay {lost}""",
    "return": """
        {he} carried it home, and soon {lost} {works} again
        {moment} {he} came back, and {lost} {works} once more
        on the way home {he} did not stop once, and that evening {lost} {works} again""",
    "ending": """
        {his} {elder} laughed and cried, and {hero} never forgot the {helper}
        and whenever a {helper} came by, {hero} had a piece of {meal} for it
        the {child} became a wise old {grown}, and this is the story that {he} told most often
        and if {hero} has not moved away, {he} lives there to this day""",
    "mood": "brave / curious / quiet / cheerful / stubborn / patient / not afraid of anything",
    "fear": "afraid / close to tears / tired / not sure what to do",
    "season": "spring / summer / autumn / winter",
    "food": "bread and cheese / three apples / a piece of cake / a bottle of milk / a handful of nuts",
    "meal": "bread / cheese / cake / apple / supper",
    "where": """through the {adjective} wood / over the {adjective} hills / along the {adjective} river / across the
        {adjective} fields / down into the {adjective} valley""",
    "adjective": "green / silent / wide / old / misty / windy / sunny / strange",
    "time": "all day / until it was dark / for {number} days / at noon / after a while / the next morning",
    "moment": "at noon / before sunrise / in the evening / at midnight / on a {adjective} morning",
    "number": "two / three / four / seven",
    "place": "a hollow tree / an empty tower / a nest of stones / the house of a giant / a boat without sails",
    "thief": "magpie / giant / troll / wolf / goblin",
}
"""Alternatives by symbol: sentences, one per line, or words between strokes."""
