"""What `study.json` holds: one object, written by `study.run`, of which `topstitch.report` makes the page, and nothing else.

Conventions. All is plain JSON. Numbers are raw (0.817, never "81.7 %"); a number that is not known is null, and so is a whole part that was
not reached, for example because a check was critical (`verdict` and `chain` are always there). An *estimate* is

    {"value", "low", "high", "level", "method", "valid", "effective", "refused"}

with the ends of a two-sided interval at `level` (0.95); `valid` says whether that level is guaranteed or approximate; `effective` is the
effective sample size (null where nothing was weighted); `refused` is the reason, in words, why all other numbers are null, or null.
A *gain* is an estimate of a difference of values to current practice. Names of policies are keys of `policies.runs[].id`.

topstitch, schema    the version that wrote it; `VERSION` of this layout
title, question      of the page; the question is one sentence ("Should a policy learned from 20,000 logged stays replace …?")
words                {"episode", "episodes", "step", "steps", "value"}: what things are called in this log: stay, stays, decision, decisions,
                     survival. `value` may be null: then "return"
unit                 {"kind", "name", "discount", "low", "high"}: kind is "share" where the return of an episode lies in 0 … 1 (percent and points),
                     else "return" (plain numbers); `name`: what one unit is called ("€"), or null. `low` and `high` are the declared range of an episode's return, or null
simulated            true where exact values are known: then `exact` stands beside estimates, else it is null everywhere

verdict
    word             one of `WORDS`
    sentence         the verdict in one sentence with numbers, as the terminal says it
    reasons          [{"code", "text"}]: what decided, most important first. Codes are those of `verdict.RULE` (`study/verdict.py`), those of
                     `saying.LACKS`, and "accepted", whose text names cautions that somebody accepts
    rule             [{"code", "asks", "here", "holds", "decides", "word"}]: the written rule in its order: what each step asks, what it found
                     (a sentence with numbers), whether it holds (null: not reached), whether it decided, and the word that it gives
    level, margin    of the intervals; the smallest gain or loss that matters, in units of the value; `margin_from` says whence ("declared", or how)
    errors           {"deploy", "trial", "do not"}: the rate of wrong words that each is built to stay below (`docs/verdict.md`)
    chosen           id of the policy that was judged, or null
    value, practice  estimates: of the chosen policy, of practice (the mean of logged returns), by evaluation episodes
    gain, control, net   gains: of the chosen policy; of the negative control; of the chosen policy over the control
    placebo          by how much the weights of the chosen policy change what was expected before the first decision
    share            of decisions, in which the control follows the copy of practice (else practice goes on)
    bound            {"low", "level", "method", "refused"}: the guaranteed lower end of the gain, where a range of returns is declared and
                     probabilities are recorded; else why there is none
    effective        what the evaluation episodes are worth for the chosen policy; `episodes` how many there are
    settle           {"margin": n, "gain": n}: evaluation episodes that would tell a true net gain as large as the margin (as the estimated
                     one) from none, four times out of five; null where unknown
    exact            {"value", "practice", "gain", "control"} or null

chain                seven links, in the order of `LINKS`: [{"id", "name", "state", "number", "detail"}]; `state` is one of `STATES`, `number` and
                     `detail` are short texts ("20,000 stays", "178,432 decisions")

data
    episodes, steps, actions, observations   counts; `observations` is the number of states (`numbered`: true) or of columns
    obs_names, action_names
    returns          {"mean", "sd", "low", "high", "quantiles": [5 numbers at 5, 25, 50, 75, 95 %], "histogram": {"edges", "counts"}}
    lengths          {"mean", "low", "high", "quantiles", "histogram"}
    truncated        episodes that the log cuts off
    splits           [{"name", "episodes", "steps", "return", "seed", "for"}]: train, selection, evaluation, and what each is for
    description      what `study.describe.describe` answers, or null
    notes            what the reader did

checks
    findings         [{"severity", "code", "title", "what", "count", "rows", "where", "columns", "remedy", "numbers", "accepted"}], worst first; severity:
                     critical, caution, warning, note; `accepted`: whether somebody has looked at it, so that it does not hold the verdict at a trial
    passed           names of checks that found nothing
    counts           {"critical", "caution", "warning", "note"}
    stopped          true where a critical finding ended the study
    accepted         {"codes", "by"}: cautions that were accepted for this study, and who has looked at them, if that was said; null where none were

coverage             can this log speak about the policies? By evaluation episodes
    support          {"levels": [0, 1, 2, 5, 10, 20, 50], "practice": [share], "policy": [share]}: the share of decisions whose action was logged
                     so often in that state of the training episodes (numbered states; else null)
    by_step          {"ids": [...], "effective": [[number a step]], "alive": [episodes that have such a step]}: effective sample size by step, of
                     the control, the chosen policy, and some others
    chosen           diagnostics of the weights of the chosen policy: {"effective", "pareto_k", "largest", "top10", "mean", "mean_error",
                     "step_mean", "step_mean_error", "overlap", "agreement"}; `top10`: the share of the ten heaviest episodes
    advice           what `study.advice.advise(log).plain()` answers, or null

practice
    recorded         true: the log's own probabilities were used; false: they were estimated from train and selection episodes
    kind             of the model that was fitted ("counts", …): it is fitted also where probabilities are recorded, as a copy of practice is needed
    score, score_blind   the mean log-likelihood of evaluation steps by that model; by action shares alone
    score_recorded   by the recorded probabilities, or null
    top              the share of evaluation steps at which the most likely action was taken
    unseen           the share of evaluation steps whose (state, action) the fit had never seen (numbered states), else null
    calibration      {"predicted", "observed", "count", "error"}: on evaluation steps
    spread           the standard error that the fit of the probabilities adds to the net gain of the chosen policy; 0 if recorded
    refused          why there is no model, or null

policies
    runs             [{"id", "name", "algorithm", "seed", "fields", "role", "what", "believes", "curve", "fault", "folder", "file", "exact"}]
                     role: "candidate", "copy" (imitation: not chosen), "control". `believes`: the critic's mean Q of logged actions at the end.
                     `curve`: {"step": [...], "believes": [...], "selection": [...], "exact": [...]} (lists or null)
    groups           [{"name", "algorithm", "ids", "why", "source"}]: runs that differ in the seed (or a swept number) alone
    advised          names of algorithms that the advice asked for, or null
    safe             name of the safe default

estimates            by evaluation episodes
    estimator, why   the primary estimator and the reason
    rows             [{"id", "value": estimate, "gain": gain, "net": gain, "pareto_k", "exact", "note"}]: control and all runs
    others           [{"name", "what", "value": estimate}]: other estimators for the chosen policy
    practice         estimate

choice
    rows             [{"id", "net": gain on selection episodes, "effective", "eligible", "why"}], best first
    chosen           id, or null
    how              the written rule of choosing
    need             effective sample size on the selection episodes that a candidate must have
    correction       "none (chosen on other episodes)" or "holm", and in words
    holm             null, or [{"id", "accepted", "low", "p", "reason"}] where candidates were tested together

changes              where the chosen policy differs from practice, on all episodes
    kind             "shares" of discrete actions, or "means" of vectors
    actions          [{"name", "practice", "policy"}]: shares of decisions; or means, with "sd", that of the logged actions
    same             the share of decisions on which they agree (Σ min)
    groups           [{"name", "by", "low", "high", "share", "same", "practice": [...], "policy": [...]}]: by groups of states
    states           [{"name", "visits", "same", "about": {column: value}, "practice": {"action", "share"}, "policy": {"action", "share", "before"}}]: the most changed ones
    tree             {"root", "asks", "classes", "fidelity", "constant", "folds", "depth", "leaves"}; a node is {"share", "n", "p": [per class]} and,
                     unless a leaf, {"column", "threshold", "left" (≤), "right" (>)}. `fidelity` and `constant` are cross-validated
    refused          why there is nothing, or null

limits               [{"code", "text", "tested"}]: what must be true, what cannot be tested first
reproduce            {"command", "commands": [{"what", "command"}], "fingerprints": {"data", "study", "policy"}, "seeds": {...}, "settings": {...},
                     "versions": {...}, "seconds", "finished", "files": [{"path", "what"}]}
"""

VERSION = 1

WORDS = ("deploy", "trial", "cannot tell", "do not")
"The four verdicts, in the order in which the page's scale shows them."

LINKS = ("data", "checks", "coverage", "practice", "policies", "estimates", "choice")
"The seven links, which are also sections 1 to 7 of the page."

STATES = ("ok", "note", "warn", "caps", "critical")
"How a link held: in order; a remark; a warning; it caps the verdict; it ended the study."

SEVERITIES = ("critical", "caution", "warning", "note")
ROLES = ("candidate", "copy", "control")
