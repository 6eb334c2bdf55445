"""The connection to another host over SSH.

asyncssh speaks the protocol; everything that decides whom to trust and what to tell the user is here. OpenSSH's own
client reads the user's configuration (`target`), so that a host means here what it means in a shell.
"""
