import { exec, execFile } from "child_process";

export function lookup(req: Request, res: Response): void {
  // ruleid: javascript-command-injection
  exec("nslookup " + req.query.host);
  // ok: javascript-command-injection
  execFile("nslookup", [req.query.host as string]);
}
