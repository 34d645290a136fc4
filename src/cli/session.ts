/** What every command works with: the daemon, the terminal, and the person's consent. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { Failure } from '../model/failure.ts';
import { createClient, type Client } from './client.ts';
import { Output } from './output.ts';

export interface Session {
  readonly client: Client;
  readonly output: Output;
  /** Asks for consent unless it was given by `--yes`; throws when it isn't given. */
  readonly confirm: (question: string, options: { readonly yes?: boolean }) => Promise<void>;
}

interface GlobalOptions {
  readonly json?: boolean;
  readonly socket: string;
}

/** Makes a commander action of a command's work. Arguments and options come after the session, as commander gives them. */
export function inSession<A extends unknown[]>(
  work: (session: Session, ...args: A) => Promise<void>,
): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    const command = args.at(-1) as Command;
    const { json = false, socket } = command.optsWithGlobals<GlobalOptions>();
    const output = new Output({ json });
    try {
      await work({ client: createClient(socket), output, confirm }, ...(args.slice(0, -1) as A));
    } catch (error) {
      if (json && !output.hasResult && error instanceof Failure) output.result({ error }, () => '');
      throw error;
    }
  };
}

async function confirm(question: string, { yes = false }: { yes?: boolean }): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new Failure('bad-request', 'This needs consent, and there is no terminal to ask on', {
      hint: 'Give consent with --yes.',
    });
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`${question}\nGo on? [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) {
      throw new Failure('bad-request', 'Not done: consent was not given', { hint: 'Answer y to go on.' });
    }
  } finally {
    prompt.close();
  }
}
