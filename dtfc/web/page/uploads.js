// Files that are being stored: what is chosen or dropped, two at a time, a row for each.

import { announce, bar, byId, copy, make, put, say, setBar, small } from "./dom.js";
import { amount, percent, short, span, speed } from "./format.js";
import { Upload, forget, giveUp, offsetOf, unfinished } from "./resumable.js";

const AT_ONCE = 2;
const rows = new Map();

/**
 * Begin to take files.
 * @param stored called when one is stored
 * @param forbidden called with the trouble when one may not be stored by whoever asks
 */
export function startUploads(stored, forbidden) {
    const heard = { stored, forbidden };
    const input = byId("files");
    const form = byId("store-form");
    byId("send-row").hidden = true;
    byId("drop-hint").hidden = false;
    input.required = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    input.addEventListener("change", () => {
        take([...input.files], heard);
        input.value = "";
    });
    watchDrops((files) => take(files, heard));
    addEventListener("beforeunload", (event) => {
        if ([...rows.keys()].some((each) => ["sending", "resting"].includes(each.state))) event.preventDefault();
    });
    showUnfinished();
}

function watchDrops(take) {
    const veil = byId("veil");
    let depth = 0;
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    const show = (shown) => (veil.hidden = !shown);
    addEventListener("dragenter", (event) => {
        if (carries(event)) show(++depth > 0);
    });
    addEventListener("dragleave", (event) => {
        if (carries(event)) show((depth = Math.max(0, depth - 1)) > 0);
    });
    addEventListener("dragover", (event) => {
        if (carries(event)) event.preventDefault();
    });
    addEventListener("drop", (event) => {
        if (!carries(event)) return;
        event.preventDefault();
        show((depth = 0) > 0);
        take([...event.dataTransfer.files]);
    });
}

function take(files, heard) {
    for (const file of files) {
        const twin = [...rows.keys()].find(
            (each) => !each.over && each.file.name === file.name && each.file.size === file.size,
        );
        if (twin) {
            announce(`${file.name} is being stored already.`);
            continue;
        }
        const upload = new Upload(file, (each) => changed(each, heard));
        const old = document.querySelector(`[data-unfinished="${CSS.escape(upload.key)}"]`);
        old?.remove();
        rows.set(upload, newRow(upload));
        byId("uploads").append(rows.get(upload).node);
        changed(upload, heard);
    }
    next();
}

function next() {
    const going = [...rows.keys()].filter((each) => ["sending", "resting"].includes(each.state)).length;
    const waiting = [...rows.keys()].filter((each) => each.state === "waiting");
    for (const upload of waiting.slice(0, Math.max(0, AT_ONCE - going))) upload.run().finally(next);
}

function newRow(upload) {
    const { name } = upload.file;
    const button = (text, act) => small(text, name, act);
    const again = () => {
        upload.to("waiting");
        next();
    };
    const row = {
        bar: bar(0, 1, `Progress of ${name}`),
        words: make("p", { class: "quiet words" }),
        result: make("div", { class: "result" }),
        pause: button("Pause", () => {
            upload.pause();
            row.resume.hidden = false;
            row.resume.focus();
            next();
        }),
        resume: button("Resume", () => {
            again();
            row.pause.hidden || row.pause.focus();
        }),
        retry: button("Try now", () => upload.hurry?.()),
        again: button("Try again", again),
        cancel: button("Cancel", () => {
            upload.cancel();
            byId("files").focus();
            next();
        }),
        remove: button("Remove from the list", () => {
            row.node.remove();
            rows.delete(upload);
            byId("files").focus();
        }),
    };
    row.node = make(
        "li",
        { class: "upload" },
        make("div", { class: "line-up" }, make("strong", { class: "name", text: name }), make("span", { class: "quiet", text: amount(upload.length) })),
        row.bar,
        row.words,
        row.result,
        make("div", { class: "row buttons" }, row.pause, row.resume, row.retry, row.again, row.cancel, row.remove),
    );
    return row;
}

function changed(upload, { stored, forbidden }) {
    const row = rows.get(upload);
    if (!row) return;
    const { state } = upload;
    const was = row.node.dataset.state;
    row.node.dataset.state = state;
    setBar(row.bar, state === "done" ? 1 : upload.sent, state === "done" ? 1 : upload.length);
    say(row.words, wordsOf(upload));
    row.pause.hidden = !["sending", "resting", "waiting"].includes(state);
    row.resume.hidden = state !== "paused";
    row.retry.hidden = state !== "resting";
    row.again.hidden = state !== "failed";
    row.cancel.hidden = upload.over;
    row.remove.hidden = !upload.over;
    row.bar.hidden = upload.over;
    if (was === state) return;
    if (state === "done") {
        showDigest(row.result, upload.digest, upload.file.name);
        announce(`${upload.file.name} is stored.`);
        stored();
    } else if (state === "failed") {
        announce(`${upload.file.name} could not be stored. ${upload.words}`);
        if ([401, 403].includes(upload.refusal?.status)) forbidden(upload.refusal);
    } else if (state === "resting") {
        announce(`${upload.file.name} is interrupted.`);
    }
}

function wordsOf(upload) {
    const part = `${percent(upload.sent, upload.length)} %`;
    switch (upload.state) {
        case "waiting":
            return "Waits for its turn";
        case "sending": {
            const told = [part, `${amount(upload.sent)} of ${amount(upload.length)}`];
            if (upload.sent === upload.length) told.push("the node is storing it");
            else if (upload.rate > 0) {
                told.push(speed(upload.rate), `${span((upload.length - upload.sent) / upload.rate)} left`);
            }
            if (upload.resumedAt > 0) told.push(`went on at ${amount(upload.resumedAt)}`);
            return told.join(" · ");
        }
        case "resting":
            return `${part} · ${upload.words}`;
        case "paused":
            return `Paused at ${part}`;
        case "cancelled":
            return "Cancelled; nothing of it is kept";
        case "failed":
            return `Not stored. ${upload.words}`;
        default: {
            const note = upload.resumedAt > 0 ? `, gone on with at ${amount(upload.resumedAt)}` : "";
            return `Stored${note}`;
        }
    }
}

function showDigest(box, digest, name) {
    const button = small("Copy digest", name, () => copy(digest, button));
    put(box, make("code", { class: "digest", text: short(digest), title: digest }), button);
}

/** What an earlier page began: it goes on when the same file is chosen again. */
async function showUnfinished() {
    for (const old of unfinished()) {
        let offset;
        try {
            offset = await offsetOf(old.id);
        } catch {
            continue; // Not now; it may be known all the same.
        }
        if (offset === null) {
            forget(old.key);
            continue;
        }
        if ([...rows.keys()].some((each) => each.key === old.key)) continue;
        const drop = small("Give it up", old.name);
        const row = make(
            "li",
            { class: "upload", "data-unfinished": old.key },
            make("div", { class: "line-up" }, make("strong", { class: "name", text: old.name }), make("span", { class: "quiet", text: amount(old.size) })),
            make("p", { class: "quiet words", text: `Broken off at ${percent(offset, old.size)} %. Choose the same file again, and it goes on from there.` }),
            make("div", { class: "row buttons" }, drop),
        );
        drop.addEventListener("click", () => {
            forget(old.key);
            giveUp(old.id).catch(() => null);
            row.remove();
            byId("files").focus();
        });
        byId("uploads").append(row);
    }
}

