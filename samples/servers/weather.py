"""A weather service: both protocol eras over Streamable HTTP, stateless.

    python samples/servers/weather.py --host 127.0.0.1 --port 3001

The weather is invented, but always the same for the same city and day.
"""

import json
import warnings
from zlib import crc32

from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from serving import arguments, security, serve

# The newest revision deprecates log messages, but older clients still use them.
warnings.filterwarnings("ignore", category=MCPDeprecationWarning)

CITIES = ("Amsterdam", "Athens", "Berlin", "Bergen", "Lisbon", "Oslo", "Prague", "Rome")
SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy")

server = MCPServer(
    "weather",
    version="1.0.0",
    instructions="Forecasts for a few European cities.",
    log_level="WARNING",
)


def forecast_of(city: str, day: int) -> dict[str, str | int]:
    seed = crc32(f"{city.lower()}/{day}".encode())
    sky = SKIES[seed % len(SKIES)]
    return {"city": city, "day": day, "sky": sky, "celsius": seed // 7 % 35 - 5}


@server.tool()
def get_forecast(city: str, day: int = 0) -> dict[str, str | int]:
    """Return the forecast for a city; day 0 is today."""
    return forecast_of(city, day)


@server.tool()
def compare_cities(first: str, second: str) -> str:
    """Tell which of two cities is warmer today."""
    first_celsius, second_celsius = (
        int(forecast_of(city, 0)["celsius"]) for city in (first, second)
    )
    if first_celsius == second_celsius:
        return f"{first} and {second} are both at {first_celsius} °C"
    warmer = first if first_celsius > second_celsius else second
    return f"{warmer} is warmer, at {max(first_celsius, second_celsius)} °C"


@server.tool()
def list_cities() -> list[str]:
    """List the cities that have a station."""
    return list(CITIES)


@server.tool()
def convert_temperature(celsius: float) -> float:
    """Convert degrees Celsius to degrees Fahrenheit."""
    return celsius * 9 / 5 + 32


@server.tool()
async def survey(ctx: Context[None], days: int = 3) -> str:
    """Collect the forecasts of all stations. Reports progress and logs each station."""
    warmest = CITIES[0]
    for done, city in enumerate(CITIES):
        await ctx.report_progress(done, len(CITIES), f"asking {city}")
        await ctx.info(f"{city} reported")
        if _mean(city, days) > _mean(warmest, days):
            warmest = city
    await ctx.report_progress(len(CITIES), len(CITIES), "done")
    return f"{warmest} is the warmest of {len(CITIES)} cities over {days} days"


def _mean(city: str, days: int) -> float:
    return sum(int(forecast_of(city, day)["celsius"]) for day in range(days)) / max(days, 1)


@server.prompt()
def packing_list(city: str, days: str = "3") -> str:
    """Packing list for a trip."""
    return f"What should I pack for {days} days in {city}? Ask for the forecast first."


@server.prompt()
def weather_report(city: str) -> str:
    """Short weather report in the style of the evening news."""
    return f"Write a short evening-news weather report for {city}."


@server.resource("weather://cities", mime_type="application/json")
def cities() -> str:
    """Cities that have a station."""
    return json.dumps(CITIES)


@server.resource("weather://scales/celsius")
def celsius() -> str:
    """Definition of the Celsius scale."""
    return "0 °C is where water freezes, 100 °C where it boils."


@server.resource("weather://scales/fahrenheit")
def fahrenheit() -> str:
    """Definition of the Fahrenheit scale."""
    return "32 °F is where water freezes, 212 °F where it boils."


@server.resource("weather://forecasts/{city}", mime_type="application/json")
def forecast(city: str) -> str:
    """Today's forecast for a city."""
    return json.dumps(forecast_of(city, 0))


@server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
async def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion | None:
    """Complete the argument `city` of prompts and resource templates."""
    if argument.name != "city":
        return None
    values = [city for city in CITIES if city.lower().startswith(argument.value.lower())]
    return Completion(values=values, total=len(values), has_more=False)


if __name__ == "__main__":
    args = arguments(default_port=3001)
    serve(server.streamable_http_app(transport_security=security("weather")), args)
