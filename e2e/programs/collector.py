"""An OpenTelemetry collector on port 4318 that prints each log record. Runs in a pod."""

import json

import uvicorn
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def receive(request: Request) -> Response:
    sent = ExportLogsServiceRequest.FromString(await request.body())
    for resource in sent.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                print(json.dumps(MessageToDict(record)), flush=True)
    return Response()


if __name__ == "__main__":
    app = Starlette(routes=[Route("/v1/logs", receive, methods=["POST"])])
    uvicorn.run(app, host="0.0.0.0", port=4318, log_level="warning")
