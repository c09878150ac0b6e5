// Requests to this node, and the token that they bring where reading needs one.
//
// Every address is relative to the page's own, so that it works behind a prefix, too.

const KEY = "dtfc token";

/** Where the page itself is, without query and fragment: all else is below it. */
export const HERE = new URL("./", document.baseURI).href;

export const at = (path) => new URL(path, HERE).href;

export const token = () => sessionStorage.getItem(KEY) ?? "";

export function setToken(given) {
    if (given) sessionStorage.setItem(KEY, given);
    else sessionStorage.removeItem(KEY);
}

/** The fields that say who asks. */
export const credentials = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** What went wrong, in words: a status (0: no answer) and the node's own explanation. */
export class Trouble extends Error {
    constructor(status, words, retryAfter = null) {
        super(words);
        this.status = status;
        this.retryAfter = retryAfter;
    }
}

/** Read a problem (RFC 9457) out of an answer's text. */
export function explain(status, text) {
    try {
        const told = JSON.parse(text);
        // Whoever may not, reads why in the detail alone.
        if ([401, 403].includes(status) && told.detail) return told.detail;
        if (told.title) return told.detail ? `${told.title}: ${told.detail}` : told.title;
    } catch {
        // Not the node's own words: a proxy's.
    }
    return status ? `The answer was ${status}` : "The node does not answer";
}

/** Ask, and return the answer; anything but a success is a Trouble. */
export async function ask(path, options = {}) {
    let answer;
    try {
        answer = await fetch(at(path), {
            ...options,
            headers: { ...credentials(), ...options.headers },
            cache: "no-store",
        });
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Trouble(0, "The node does not answer");
    }
    if (!answer.ok) throw new Trouble(answer.status, explain(answer.status, await answer.text()));
    return answer;
}

export const askJson = async (path, options) => (await ask(path, options)).json();
