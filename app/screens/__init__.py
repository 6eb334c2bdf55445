"""The screens of the deck, one file each."""
