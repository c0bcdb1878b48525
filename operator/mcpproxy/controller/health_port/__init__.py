"""The port for probes, metrics and the page. Knows neither Kopf nor how MCPProxies are
reconciled."""
