def gd_step(R, P, Q, alpha, beta):
    E = R - P @ Q.T
    return P + alpha * (2 * E @ Q - beta * P), Q + alpha * (2 * E.T @ P - beta * Q)


def mu_step(R, P, Q):
    P = P * (R @ Q) / (P @ Q.T @ Q)
    return P, Q * (R.T @ P) / (Q @ P.T @ P)
