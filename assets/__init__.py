"""Themes, demo configs and schemas that ship with the package."""
