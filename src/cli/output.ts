/** Where the words of a command go: results to standard output, everything said beside them to standard error. */
import { styleText } from 'node:util';

export type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan';

interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export class Output {
  readonly isJson: boolean;
  readonly #out: Terminal;
  readonly #beside: Terminal;
  readonly #colours: boolean;
  #hasResult = false;

  constructor(options: { json: boolean; out?: Terminal; beside?: Terminal; environment?: NodeJS.ProcessEnv }) {
    this.isJson = options.json;
    this.#out = options.out ?? process.stdout;
    this.#beside = options.beside ?? process.stderr;
    const environment = options.environment ?? process.env;
    this.#colours = this.isLive && !environment['NO_COLOR'] && environment['TERM'] !== 'dumb';
  }

  /** A person watches: lines may be redrawn. */
  get isLive(): boolean {
    return this.#out.isTTY === true && !this.isJson;
  }

  /** Whether a result has been printed. */
  get hasResult(): boolean {
    return this.#hasResult;
  }

  /** The result, for a machine or for a person. */
  result(value: unknown, forPeople: () => string): void {
    this.#hasResult = true;
    const text = this.isJson ? JSON.stringify(value, undefined, 2) : forPeople();
    if (text !== '') this.#out.write(`${text}\n`);
  }

  /** One of many results, as they come; JSON goes one object a line. */
  item(value: unknown, forPeople: () => string): void {
    this.#hasResult = true;
    this.#out.write(`${this.isJson ? JSON.stringify(value) : forPeople()}\n`);
  }

  /** A line for people beside the result; nothing for machines. */
  note(text: string): void {
    if (!this.isJson) this.#beside.write(`${text}\n`);
  }

  /** Raw, for what redraws itself; only when `isLive`. */
  draw(text: string): void {
    if (this.isLive) this.#out.write(text);
  }

  paint(style: Style, text: string): string {
    return this.#colours ? styleText(style, text, { validateStream: false }) : text;
  }
}
