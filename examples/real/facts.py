"""Twenty questions of general knowledge with their answers; | separates forms of one answer."""

from __future__ import annotations

FACTS = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Italy?", "Rome"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Egypt?", "Cairo"),
    ("On which continent is Kenya?", "Africa"),
    ("Which ocean lies between Europe and America?", "Atlantic"),
    ("Which planet do we live on?", "Earth"),
    ("Which planet is known as the red planet?", "Mars"),
    ("What is the largest planet of the solar system?", "Jupiter"),
    ("What star does the Earth orbit?", "Sun"),
    ("What gas do plants take from the air to grow?", "carbon dioxide|CO2"),
    ("What is the chemical symbol of water?", "H2O|H₂O"),
    ("What is the chemical symbol of gold?", "Au"),
    ("At what temperature in degrees Celsius does water boil?", "100"),
    ("How many days are in a week?", "7|seven"),
    ("How many legs does a spider have?", "8|eight"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("Who painted the Mona Lisa?", "Leonardo|da Vinci"),
    ("What language do people speak in Brazil?", "Portuguese"),
    ("Which organ pumps blood through the body?", "heart"),
)
