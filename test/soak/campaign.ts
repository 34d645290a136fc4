/** What `npm run test:soak` runs: long trials whose short forms are in `npm test`. */

export interface Round {
  readonly seed: number;
  /** What there is for all rounds of the campaign: for one that lasts as long as it is told. 0: as short as it can be. */
  readonly minutes: number;
  /** How many things are to happen, for a campaign that counts them; undefined: as many as the minutes hold. */
  readonly operations?: number;
  /** Aborts when the campaign is to end before its time: what has been looked at by then counts. */
  readonly signal: AbortSignal;
  /** Says how far it is. */
  readonly progress: (text: string) => void;
}

export interface Outcome {
  /** For campaigns whose round is many. */
  readonly rounds: number;
  readonly found: string;
  /** What was wrong: told so instead of thrown where rounds before it count. */
  readonly violation?: string;
}

export interface Campaign {
  readonly name: string;
  /** For the list of campaigns. */
  readonly about: string;
  /** One round with one seed: what it has looked at, in numbers. Throws at the first thing that is wrong. */
  readonly round: (round: Round) => Promise<string | Outcome>;
}
