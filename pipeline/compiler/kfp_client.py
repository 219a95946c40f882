"""Client of Kubeflow Pipelines that submits a compiled pipeline."""

import io
import json
from contextlib import redirect_stdout

import kfp
import kfp_server_api
import urllib3

from mmkeras.errors import UserError, one_line
from pipeline.compiler.compile_args import CompileArgs

_TIMEOUT_S = 20.0
_HEALTH_PATH = "/apis/v2beta1/healthz"


def submit(args: CompileArgs) -> str:
    """Starts a run of the compiled pipeline; returns the address of its page.

    Raises:
        UserError: Kubeflow Pipelines cannot be reached, or rejects the pipeline.
    """
    host = args.host if "://" in args.host else f"https://{args.host}"
    _check_host(host)
    try:
        with redirect_stdout(io.StringIO()):  # it prints the address
            client = kfp.Client(host=host)
            run = client.create_run_from_pipeline_package(
                str(args.output),
                experiment_name=args.experiment,
                namespace=args.namespace,
                pipeline_root=args.pipeline_root,
                service_account=args.config.kubeflow.service_account or None,
            )
    except kfp_server_api.ApiException as error:
        text = f"{host} refuses the pipeline: {error.status} {_reason(error)}"
        raise UserError(text) from None
    except (urllib3.exceptions.HTTPError, TimeoutError) as error:
        raise _unreachable(host, error) from None
    return f"{host}/#/runs/details/{run.run_id}"


def _check_host(host: str) -> None:
    """Checks with a time limit that the API responds; the client itself has none."""
    pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)
    try:
        pool.request("GET", f"{host}{_HEALTH_PATH}")
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise _unreachable(host, error) from None


def _unreachable(host: str, error: Exception) -> UserError:
    return UserError(
        f"Kubeflow Pipelines at {host} cannot be reached: {one_line(error)}. Check "
        "--host; from outside a cluster: kubectl port-forward -n kubeflow "
        "svc/ml-pipeline-ui 8080:80, and --host http://localhost:8080."
    )


def _reason(error: kfp_server_api.ApiException) -> str:
    try:
        content = json.loads(error.body)
        return one_line(content.get("message") or content["error"])
    except (TypeError, ValueError, KeyError, AttributeError):
        return str(error.reason)
