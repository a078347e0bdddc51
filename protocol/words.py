"""The words that say how large a task is, English and German: what each is a mark of.

``stem*`` begins a word, ``*stem`` ends it, ``word`` is it. What the marks are worth is ``policies/complexity.py``'s.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_PROJECT: Final = """
    build develop* migrat* port rewrite restructure redesign* reorgani* replace organi* plan prepare moderni*
    consolidate integrate launch compare analyse analyze research audit bring entwick* entwirf* entwerfe* migrier*
    programmier* plane planen realisier* digitalisier* portier* recherchier* organisier* analysier* baue bauen
    zusammen ersetze*"""
_MAKE: Final = "implement* create write design make erstell* schreib* mach*"
_HOUSE: Final = """
    our unser* across everything company team teams department* organization organisation legacy whole entire alles
    gesamte* firma unternehmen abteilung* altsystem komplett*"""
_STEPS: Final = """
    then next afterwards finally plus first danach anschließend dann sowie zuerst schließlich phase phases phasen
    milestone* meilenstein* rollout validate packages"""
_CONDITIONS: Final = """
    must should shall without compliant muss müssen soll* ohne mindestens *konform hochverfügbar accessib* wcag gdpr
    dsgvo iso barrierefrei* mehrsprachig* tenancy multitenan* mandantenfähig offline"""
_BIG: Final = """
    *app apps *application *applications *platform *portal *shop *store *website *site game games platformer clone
    *compiler interpreter kernel *system *systems *engine bot crawler *pipeline sdk *library libraries *framework
    marketplace dashboard gallery wiki *editor *database *client *server *service *services api parser scheduler
    protocol tool simulator backend frontend monolith erp crm management manager generator tracker planner course
    curriculum novel book study proposal brand conference campaign festival handbook documentation audit report
    *anwendung *plattform *laden *spiel *dienst *dienste *datenbank *bibliothek *werkzeug *schnittstelle *software
    *zentrale *verwaltung *steuerung *konzept lastenheft *buch *roman *kurs *lehrgang *hochzeit *tagung *messe
    orm roguelike *reihe *kampagne *gutachten *studie *buchhaltung *programm *automaten"""
_TINY: Final = """
    function functions method methods class regex regexp expression query liner snippet line lines sentence sentences
    mail email haiku poem limerick joke jokes tagline taglines slogan slogans name names title titles rule rules
    docstring docstrings comment comments tweet paragraph paragraphs greeting command dataclass enum constant variable
    is_* select synonym synonyms loop button icon color colour port timeout typo dockerfile hint hints case unit
    *funktion *methode *klasse *ausdruck *abfrage *zeiler *zeile *zeilen *satz sätze *absage *zusage *gedicht *witz
    script skript description blurb bio beschreibung namen titel befehl kommentar absatz
    *schleife variable *gruß betreff vorteil* nachteil* gründe unterschied*"""
_DEEDS: Final = """
    translate rename sort convert explain summari* proofread correct compute calculate tell name list suggest give
    turn undo change describe define rephrase paraphrase shorten count spell format round say remove delete übersetz*
    korrigier* sortier* nenn* erklär* wandle rechne berechne formulier* fasse fass änder* benenn* sag zähl* kürz*
    beschreib* increase decrease rename bump swap disable enable hide entfern* lösch* rausnehm* setz*"""
_ASKING: Final = "what who whom whose when where why how which wer wen wem wann wo warum wieso wie welche* wieviel*"
_ASKING_VERBS: Final = "is are am do does did can could will would has was ist sind kann darf hat"
_ACTS: Final = "write fix find set do give check test measure document deploy review compare add split migrate clean"
_DISCIPLINES: Final = (  # two and more of these are work for several people
    "test tests tested testing testsuite testplan playwright coverage",
    "docs doc document* dokument* handbuch handbook guide guides tutorial* anleitung examples",
    "frontend front ui screen screens *oberfläche browser react dashboard*",
    "backend back api apis endpoint* rest *schnittstelle server",
    "database* schema migration migrations storage postgres* redis *datenbank speicher* inventory inventar",
    "mobile phone phones handy android ios smartphone app",
    "deploy* docker terraform kubernetes ci cd pipeline rollback release betrieb",
    "security auth* login signup permission* roles encrypt* anmeldung *rechte* berechtig* datenschutz risk",
    "payment* checkout billing abrechnung* bezahl* budget cost costs kosten preise prices",
    "admin* reception *verwaltung personal",
    "monitor* metrics alert* alarm* logging tracing telemetry opentelemetry statisti*",
    "import export sync integration anbindung übernahme datenübernahme datev sap interface interfaces",
    "multiplayer mehrspieler* realtime online live chat sharing",
    "train training schul* *kurs course onboard*",
    "market* campaign *kampagne press media launch presentation präsentation",
    "schedule timeline zeitplan zeittafel venue catering ablauf organis*",
    "regulation* compliance legal ethics rechtlich abnahme",
    "model predict* vorhers* segment* forecast* embedding* recommend* evaluation auswert*",
)


def _table() -> tuple[dict[str, tuple[str, ...]], ...]:
    """Return the marks by whole word, by beginning and by ending."""
    lists = {"project": _PROJECT, "make": _MAKE, "house": _HOUSE, "steps": _STEPS, "conditions": _CONDITIONS}
    lists |= {"big": _BIG, "tiny": _TINY, "deed": _DEEDS, "asking": _ASKING, "verb": _ASKING_VERBS, "act": _ACTS}
    lists |= {f"work {number}": words for number, words in enumerate(_DISCIPLINES)}
    tables: tuple[dict[str, tuple[str, ...]], ...] = ({}, {}, {})
    for mark, words in lists.items():
        for word in words.split():
            table = tables[2] if word[0] == "*" else tables[1] if word[-1] == "*" else tables[0]
            table[word.strip("*")] = (*table.get(word.strip("*"), ()), mark)
    return tables


_WHOLE, _BEGINS, _ENDS = _table()
_LONGEST: Final = max(map(len, (*_BEGINS, *_ENDS)))


@lru_cache(maxsize=4096)
def marks_of(word: str) -> frozenset[str]:
    """Return the marks of a word in lower case: ``project``, ``make``, ``big``, ``tiny``, ``deed``, ``work 3``, ..."""
    found = set(_WHOLE.get(word, ()))
    for size in range(2, min(len(word), _LONGEST) + 1):
        found.update(_BEGINS.get(word[:size], ()), _ENDS.get(word[-size:], ()))
    return frozenset(found)
