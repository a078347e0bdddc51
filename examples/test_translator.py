"""Its unit test, in virtual time and without a network. Run it with ``pytest test_translator.py``."""

from translator import Translator


def test_it_answers_with_what_the_model_said(actor_kit, scripted_model):
    scripted_model.on("translator", "Guten Morgen")
    actor_kit.register(Translator)
    assert actor_kit.ask("translator", "Good morning").result == "Guten Morgen"
