"""The program /usr/local/sbin/integr8scode-maintenance: what a server does by itself, on a timer, without Ansible."""
