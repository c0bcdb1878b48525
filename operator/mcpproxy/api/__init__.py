"""The contract: models of the MCPProxy and of its status. The operator and the runtime import
it."""
