// One file on its way to the node: in parts, each of which may be sent again (tus 1.0).
//
// Where the node keeps the upload is kept under the file's name, size and date, so that it goes on
// after the page was closed, once the same file is chosen again. What is small goes in one PUT.

import { HERE, Trouble, at, credentials, explain } from "./access.js";

const MIB = 1024 * 1024;
const PART = 8 * MIB;
const SMALL = MIB;
const LONGEST_REST = 30;
const KEPT = `dtfc upload ${HERE} `;
const TUS = { "Tus-Resumable": "1.0.0" };

/** Statuses after which the same request may succeed. */
const PASSING = new Set([0, 408, 409, 423, 429, 460, 500, 502, 503, 504]);

/** Send a request whose body's progress can be seen, which fetch cannot tell. */
export function send(method, path, { headers = {}, body = null, signal, progress } = {}) {
    return new Promise((done, failed) => {
        const request = new XMLHttpRequest();
        const stop = () => request.abort();
        request.open(method, at(path));
        for (const [name, value] of Object.entries({ ...credentials(), ...headers })) {
            request.setRequestHeader(name, value);
        }
        if (progress) request.upload.onprogress = (event) => progress(event.loaded);
        request.onload = () => {
            const { status } = request;
            if (status >= 200 && status < 300) {
                done(request);
                return;
            }
            const rest = Number(request.getResponseHeader("Retry-After")) || null;
            const trouble = new Trouble(status, explain(status, request.responseText), rest);
            trouble.offset = request.getResponseHeader("Upload-Offset");
            failed(trouble);
        };
        request.onerror = () => failed(new Trouble(0, "The connection was cut"));
        request.onabort = () => failed(new DOMException("given up", "AbortError"));
        request.onloadend = () => signal?.removeEventListener("abort", stop);
        if (signal?.aborted) {
            failed(new DOMException("given up", "AbortError"));
            return;
        }
        signal?.addEventListener("abort", stop);
        request.send(body);
    });
}

let offered = null;

/** Whether this node takes uploads in parts; asked once, and again if it did not answer. */
export function takesParts() {
    offered ??= send("OPTIONS", "uploads/", { headers: TUS })
        .then((answer) => (answer.getResponseHeader("Tus-Version") ?? "").includes("1.0.0"))
        .catch((trouble) => {
            if (trouble.status === 0) {
                offered = null;
                throw trouble;
            }
            return false;
        });
    return offered;
}

/** Uploads that an earlier page began and did not end: {key, name, size, id}. */
export function unfinished() {
    const found = [];
    for (const key of Object.keys(localStorage)) {
        if (!key.startsWith(KEPT)) continue;
        try {
            found.push({ key, ...JSON.parse(localStorage.getItem(key)) });
        } catch {
            localStorage.removeItem(key);
        }
    }
    return found;
}

export const forget = (key) => localStorage.removeItem(key);

/** How far the node has an upload; null if it does not know it any more. */
export async function offsetOf(id, signal) {
    try {
        const answer = await send("HEAD", `uploads/${id}`, { headers: TUS, signal });
        return Number(answer.getResponseHeader("Upload-Offset"));
    } catch (trouble) {
        if (trouble.status === 404 || trouble.status === 410) return null;
        throw trouble;
    }
}

export const giveUp = (id) => send("DELETE", `uploads/${id}`, { headers: TUS });

export class Upload {
    /**
     * @param file what is sent
     * @param changed called after each change of what is seen of it
     */
    constructor(file, changed) {
        this.file = file;
        this.changed = changed;
        this.key = `${KEPT}${file.name} ${file.size} ${file.lastModified}`;
        this.state = "waiting";
        this.words = "";
        this.sent = 0;
        this.digest = "";
        this.resumedAt = 0;
        this.refusal = null;
        this.tries = 0;
        this.progress = [];
    }

    get length() {
        return this.file.size;
    }

    get over() {
        return ["done", "failed", "cancelled"].includes(this.state);
    }

    /** Bytes a second, lately. */
    get rate() {
        if (this.progress.length < 2) return 0;
        const [first, last] = [this.progress[0], this.progress.at(-1)];
        return last.at > first.at ? Math.max(0, (1000 * (last.sent - first.sent)) / (last.at - first.at)) : 0;
    }

    async run() {
        this.stop = new AbortController();
        const { signal } = this.stop;
        this.to("sending");
        while (!signal.aborted) {
            try {
                await this.attempt(signal);
                forget(this.key);
                this.to("done");
                return;
            } catch (error) {
                if (signal.aborted) return;
                if (!(error instanceof Trouble)) {
                    this.to("failed", `The file cannot be read: ${error.message}`);
                    return;
                }
                if (!PASSING.has(error.status)) {
                    this.refusal = error;
                    this.to("failed", error.message);
                    return;
                }
                await this.rest(error, signal);
            }
        }
    }

    async attempt(signal) {
        const inParts = this.length > SMALL && (await takesParts());
        if (!inParts) {
            await this.whole(signal);
            return;
        }
        await this.find(signal);
        do {
            const answer = await this.part(signal);
            this.tries = 0;
            this.digest = digestIn(answer);
        } while (this.sent < this.length);
        if (!this.digest) this.digest = await this.ask(signal);
    }

    /** Send all of it in one request. */
    async whole(signal) {
        this.moved(0);
        const answer = await send("PUT", encodeURIComponent(this.file.name), {
            body: this.file,
            signal,
            progress: (sent) => this.moved(Math.min(sent, this.length)),
        });
        this.digest = JSON.parse(answer.responseText).sha512;
        this.moved(this.length);
    }

    /** Find out how far the node has it; begin if it has nothing. */
    async find(signal) {
        const kept = JSON.parse(localStorage.getItem(this.key) ?? "null");
        const offset = kept && (await offsetOf(kept.id, signal));
        if (kept && offset !== null) {
            this.id = kept.id;
            this.resumedAt = offset;
            this.moved(offset);
            return;
        }
        const answer = await send("POST", "uploads/", {
            headers: {
                ...TUS,
                "Upload-Length": String(this.length),
                "Upload-Metadata": `filename ${base64(new TextEncoder().encode(this.file.name))}`,
            },
            signal,
        });
        // The last part alone: a proxy may have its own idea of what stands before it.
        this.id = answer.getResponseHeader("Location").split("/").at(-1);
        this.resumedAt = 0;
        localStorage.setItem(
            this.key,
            JSON.stringify({ id: this.id, name: this.file.name, size: this.length }),
        );
        this.moved(0);
    }

    async part(signal) {
        const start = this.sent;
        const piece = this.file.slice(start, Math.min(this.length, start + PART));
        const headers = {
            ...TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": String(start),
        };
        let body = piece;
        if (globalThis.crypto?.subtle) {
            body = await piece.arrayBuffer();
            const digest = await crypto.subtle.digest("SHA-256", body);
            headers["Upload-Checksum"] = `sha256 ${base64(new Uint8Array(digest))}`;
        }
        const answer = await send("PATCH", `uploads/${this.id}`, {
            headers,
            body,
            signal,
            progress: (sent) => this.moved(start + Math.min(sent, piece.size)),
        });
        this.moved(Number(answer.getResponseHeader("Upload-Offset")));
        return answer;
    }

    /** Ask what became of it: the answer that would have said so was lost. */
    async ask(signal) {
        const answer = await send("GET", `uploads/${this.id}`, { signal });
        const { stored } = JSON.parse(answer.responseText);
        if (!stored) throw new Trouble(503, "The node has all of it, and has not stored it yet");
        return stored.sha512;
    }

    /** Wait a little, longer each time; not any more once the network is back. */
    async rest(trouble, signal) {
        this.tries += 1;
        const seconds = trouble.retryAfter ?? Math.min(LONGEST_REST, 2 ** (this.tries - 1));
        this.progress = [];
        this.to("resting", `${trouble.message}. Trying again in ${Math.round(seconds)} s.`);
        await new Promise((done) => {
            const timer = setTimeout(done, 1000 * seconds * (0.75 + 0.5 * Math.random()));
            this.hurry = () => {
                clearTimeout(timer);
                done();
            };
            signal.addEventListener("abort", this.hurry, { once: true });
            addEventListener("online", this.hurry, { once: true });
        });
        removeEventListener("online", this.hurry);
        if (!signal.aborted) this.to("sending");
    }

    pause() {
        this.stop?.abort();
        this.to("paused");
    }

    /** Give it up, here and at the node. */
    async cancel() {
        this.stop?.abort();
        this.to("cancelled");
        forget(this.key);
        if (this.id) await giveUp(this.id).catch(() => null);
    }

    moved(sent) {
        const now = performance.now();
        if (sent < this.sent) this.progress = [];
        this.sent = sent;
        this.progress.push({ at: now, sent });
        while (this.progress.length > 2 && this.progress[0].at < now - 5000) this.progress.shift();
        this.changed(this);
    }

    to(state, words = "") {
        this.state = state;
        this.words = words;
        this.changed(this);
    }
}

function digestIn(answer) {
    const place = answer.getResponseHeader("Content-Location") ?? answer.getResponseHeader("Location") ?? "";
    return /[0-9a-f]{128}/.exec(place)?.[0] ?? "";
}

function base64(bytes) {
    let text = "";
    for (const each of bytes) text += String.fromCharCode(each);
    return btoa(text);
}
