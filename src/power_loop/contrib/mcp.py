"""Door: tools of MCP servers in a registry. The SDK (extra ``mcp``) is needed by the clients alone, when they connect."""

from power_loop.contrib.mcp_client import McpClient
from power_loop.contrib.mcp_endpoints import HttpMCPClient, StdioMCPClient
from power_loop.contrib.mcp_names import McpName
from power_loop.contrib.mcp_register import register_mcp_tools
from power_loop.contrib.mcp_servers import McpServers, load_mcp_servers
from power_loop.contrib.mcp_source import MCPToolSource, McpToolSpec

__all__ = (
    "HttpMCPClient",
    "MCPToolSource",
    "McpClient",
    "McpName",
    "McpServers",
    "McpToolSpec",
    "StdioMCPClient",
    "load_mcp_servers",
    "register_mcp_tools",
)
