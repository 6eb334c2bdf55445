"""Instruments: charts, tables, console. Plain values in, messages out."""
