"""Real servers for tests: sshd on the loopback interface, a TCP proxy that breaks lines, network namespaces."""
