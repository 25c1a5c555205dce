"""What a server has of Integr8sCode: the parts of the module integr8scode_state."""
