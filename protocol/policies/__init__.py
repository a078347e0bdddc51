"""Pure policies: leaves that decide one thing each and never import each other."""
