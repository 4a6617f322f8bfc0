"""Definitions of programs: read from a program file, checked, and stored in the database."""

from jobsite.programs.definitions.actions import KINDS, ActionDefinition
from jobsite.programs.definitions.program_file import DefinitionError, ProgramDefinition, from_mapping, parse

__all__ = ["KINDS", "ActionDefinition", "DefinitionError", "ProgramDefinition", "from_mapping", "parse", "registration"]
